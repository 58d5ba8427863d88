"""What actions exist: reading, rules, storing, indexing. Never runs one."""
