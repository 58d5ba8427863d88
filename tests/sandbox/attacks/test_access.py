"""Attacks by reaching for what is not the code's own: of the server, its supervisor, the kernel, the host."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.conftest import RUNTIME

from .conftest import SECRET, Attacked

pytestmark = pytest.mark.anyio


NOT_ALLOWED = {
    "environment of the server": f"""
def environments():
    for pid in [1, *others(), os.getpid()]:
        try:
            yield open(f'/proc/{{pid}}/environ').read()
        except OSError: pass
[not any({SECRET!r} in text for text in environments()), GVISOR or refused(lambda: open('/proc/1/environ').read()),
 'API_KEY' not in os.environ]
""",
    "memory and descriptors of the supervisor": """
def is_for_prints(number):
    return os.readlink(f'/proc/1/fd/{number}').startswith(('pipe:', '/dev/null'))
numbers = [n for n in range(64) if not (GVISOR and os.path.lexists(f'/proc/1/fd/{n}') and is_for_prints(n))]
[refused(open, '/proc/1/mem', 'rb'), all(refused(open, f'/proc/1/fd/{number}', 'wb') for number in numbers),
 GVISOR or refused(os.listdir, '/proc/1/fd'), refused(os.readlink, '/proc/1/cwd'), refused(os.readlink, '/proc/1/exe'),
 GVISOR or refused(lambda: open('/proc/1/maps').read())]
""",
    "memory of zygotes": """
def is_readable(pid):
    try:
        open(f'/proc/{pid}/mem', 'rb').close()
        return 'zombie' not in open(f'/proc/{pid}/status').read()
    except OSError:
        return False
[not any(is_readable(pid) for pid in others() if pid != os.getppid())]
""",
    "what cannot be written": """
places = '/ /etc /usr /usr/lib /bin /opt /opt/worker /packages /root /home /var /dev /proc /sys'.split()
[refused(open, f'{place}/x', 'w') for place in places if os.path.isdir(place)] + [
 refused(open, path, 'w') for path in (sys.executable, os.__file__, '/etc/passwd', '/proc/sys/kernel/core_pattern',
 '/proc/sys/vm/overcommit_memory', '/proc/sysrq-trigger', '/sys/kernel/mm/ksm/run', '/proc/1/oom_score_adj')]
""",
    "any other place to write to": """
def writable():
    for folder, names, _ in os.walk('/'):
        if folder.startswith(('/proc', '/sys', '/workspace', '/tmp', '/dev/shm')):
            names[:] = []
        elif not refused(lambda: os.close(os.open(folder + '/x', os.O_CREAT | os.O_WRONLY))):
            yield folder
[list(writable()) == []]
""",
    "devices and pipes by name": """
disks = ('sd', 'vd', 'nvme', 'kvm', 'mem', 'kmsg', 'loop', 'fuse')
refused(os.mknod, '/workspace/disk', 0o60600, os.makedev(8, 0))
refused(os.mknod, '/tmp/memory', 0o20600, os.makedev(1, 1))
[refused(open, '/workspace/disk', 'rb'), refused(open, '/tmp/memory', 'rb'),
 GVISOR or not [name for name in os.listdir('/dev') if name.startswith(disks)]]
""",
    "rights it does not have": """
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
[os.getuid() != 0, os.geteuid() != 0, int(status['CapEff'], 16) == 0, int(status['CapPrm'], 16) == 0,
 refused(os.setuid, 0), refused(os.setgid, 0), refused(os.chown, '/workspace', 0, 0),
 refused(os.chroot, '/tmp'), GVISOR or refused(os.nice, -5), libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0) == -1,
 libc.umount2(b'/proc', 0) == -1, refused(socket.socket, socket.AF_PACKET, socket.SOCK_RAW),
 refused(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)]
""",
    "larger limits": """
def be_spared():
    with open('/proc/self/oom_score_adj', 'w') as file: file.write('-500')
def raised(kind):
    soft, hard = resource.getrlimit(kind)
    return hard == resource.RLIM_INFINITY or refused(resource.setrlimit, kind, (soft, hard + 1))
[resource.getrlimit(resource.RLIMIT_CORE) == (0, 0), raised(resource.RLIMIT_CORE), raised(resource.RLIMIT_NOFILE),
 raised(resource.RLIMIT_FSIZE), raised(resource.RLIMIT_DATA), GVISOR or refused(be_spared),
 resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= 1024]
""",
    "turn and limits of the supervisor": """
def limit():
    resource.prlimit(1, resource.RLIMIT_NOFILE, (4, 4))
def yield_group():
    with open('/proc/self/autogroup', 'w') as file: file.write('19')
def of_supervisor(name):
    return open(f'/proc/1/{name}').read() if os.path.exists(f'/proc/1/{name}') else ''
before_it = of_supervisor('autogroup')
refused(yield_group)
[GVISOR or refused(os.setpriority, os.PRIO_PROCESS, 1, 19), GVISOR or refused(os.setpriority, os.PRIO_USER, 0, 19),
 GVISOR or refused(os.setpriority, os.PRIO_PGRP, 0, 19), GVISOR or refused(limit),
 of_supervisor('autogroup') == before_it, GVISOR or of_supervisor('stat').rpartition(')')[2].split()[16] == '0']
""",
    "programs with another's rights": """
import stat
def privileged():
    for folder, names, files in os.walk('/'):
        if folder in ('/proc', '/sys'): names[:] = []
        for path in (os.path.join(folder, name) for name in files):
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID): yield path
[all(os.statvfs(path).f_flag & os.ST_NOSUID for path in privileged()),
 GVISOR or 'NoNewPrivs:\\t1' in open('/proc/self/status').read()]
""",
    "network": """
def connect(family, address):
    with socket.socket(family) as one:
        one.settimeout(1)
        one.connect(address)
hosts = {'127.0.0.1': PORT, '127.0.0.2': PORT, '169.254.169.254': 80, '10.0.0.1': 80, '172.17.0.1': PORT}
[refused(connect, socket.AF_INET, address) for address in hosts.items()] + [
 refused(connect, socket.AF_INET6, ('::1', PORT)), refused(connect, socket.AF_UNIX, '\\0' + NAME),
 refused(socket.getaddrinfo, 'example.org', 80), [name for _, name in socket.if_nameindex()] == ['lo']]
""",
    "files of the host": """
places = [HOME + '/.ssh', HOME + '/.docker', LIBRARY, '/etc/ssh', '/var/lib/docker']
[not os.path.exists(path) for path in (*places, '/var/run/docker.sock', '/run/docker.sock')] + [
 refused(lambda: open('/etc/shadow').read()),
 not any('docker.sock' in line for line in open('/proc/self/mountinfo')) ]
""",
}


@pytest.fixture
def listeners() -> Iterator[tuple[int, str]]:
    """Of the host: a port, and a name without a file."""
    with socket.socket() as port, socket.socket(socket.AF_UNIX) as name:
        port.bind(("0.0.0.0", 0))
        port.listen()
        # Chosen by the kernel, as the port is: several runs share a machine.
        name.bind("")
        name.listen()
        yield port.getsockname()[1], name.getsockname().decode()[1:]


@pytest.mark.parametrize("attack", NOT_ALLOWED)
async def test_sandbox_gives_no_access_to(
    attacked: Attacked, attack: str, tmp_path: Path, listeners: tuple[int, str]
) -> None:
    names: dict[str, object] = {
        "PORT": listeners[0],
        "NAME": listeners[1],
        "HOME": str(Path.home()),
        "LIBRARY": str(tmp_path),
    }
    # Its kernel is the sandbox's own: what it shows of itself, and nice, are nobody else's.
    names["GVISOR"] = RUNTIME == "runsc"
    head = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    async with attacked() as target:
        answers = await target.value(head + NOT_ALLOWED[attack])
        assert "False" not in answers, answers
        assert "True" in answers


async def test_kernel_has_no_door_that_is_open(attacked: Attacked) -> None:
    if RUNTIME == "runsc":
        pytest.skip("gVisor answers with a kernel of its own")
    code = """
x86 = platform.machine() == 'x86_64'
doors = {
    'ptrace': (101 if x86 else 117, 0), 'process_vm_readv': (310 if x86 else 270, 1, 0, 0, 0, 0, 0),
    'unshare': (272 if x86 else 97, 0x10000000), 'setns': (308 if x86 else 268, 0, 0),
    'clone into a user namespace': (56 if x86 else 220, 0x10000011, 0, 0, 0, 0),
    'mount': (165 if x86 else 40, 0, 0, 0, 0, 0), 'pivot_root': (155 if x86 else 41, 0, 0),
    'chroot': (161 if x86 else 51, 0),
    'keyctl': (250 if x86 else 219, 0, -3, 1), 'add_key': (248 if x86 else 217, 0, 0, 0, 0, -3),
    'bpf': (321 if x86 else 280, 0, 0, 0), 'perf_event_open': (298 if x86 else 241, 0, 0, -1, -1, 0),
    'userfaultfd': (323 if x86 else 282, 1), 'io_uring_setup': (425, 1, 0), 'memfd_create': (319 if x86 else 279, 0, 0),
    'open_by_handle_at': (304 if x86 else 265, 0, 0, 0), 'personality': (135 if x86 else 92, 0x0040000),
    'sched_setaffinity': (203 if x86 else 122, 0, 8, 0), 'init_module': (175 if x86 else 105, 0, 0, 0),
    'kexec_load': (246 if x86 else 104, 0, 0, 0, 0), 'reboot': (169 if x86 else 142, 0, 0, 0, 0),
    'settimeofday': (164 if x86 else 170, 0, 0), 'shmget': (29 if x86 else 194, 0, 4096, 0o1600),
    'vsock': (41 if x86 else 198, 40, 1, 0),
}
{name: raw(*words) for name, words in doors.items()}
"""
    async with attacked() as target:
        answers = (await target.value(code)).replace("EAFNOSUPPORT", "EPERM")
        assert answers.count("EPERM") == answers.count(": "), answers
