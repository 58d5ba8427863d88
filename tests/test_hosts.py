"""Hosts that the network is allowed to: how they are written, and which covers which."""

from __future__ import annotations

import pytest

from dynasaur_mcp.errors import SettingsError
from dynasaur_mcp.hosts import find_uncovered, read_host
from dynasaur_mcp.sandbox.addresses import is_public
from dynasaur_mcp.settings import read_settings


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("API.Example.org.", "api.example.org"),
        ("*.example.org", "*.example.org"),
        ("example.org:8443", "example.org:8443"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("10.0.0.5:8000", "10.0.0.5:8000"),
        ("[0:0::1]:80", "[::1]:80"),
        ("fd00::1", "[fd00::1]"),
    ],
)
def test_host_is_read_into_its_normal_form(text: str, normal: str) -> None:
    assert str(read_host(text)) == normal
    assert read_host(normal) == read_host(text)


@pytest.mark.parametrize(
    "text",
    ["", "*", "*.", "a b", "x/y", "http://x.org", "x.org:0", "x.org:99999", "1.2.3", "-x.org", "y" * 64, "x..org"],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no host|no port"):
        read_host(text)


def test_name_of_this_machine_is_refused_with_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"Write its address, such as 127\.0\.0\.1:8000"):
        read_host("localhost:8000")


@pytest.mark.parametrize(
    ("allowed", "wanted", "is_covered"),
    [
        ("api.example.org", "api.example.org", True),
        ("api.example.org", "api.example.org:443", True),
        ("api.example.org", "api.example.org:80", True),
        ("api.example.org", "api.example.org:8443", False),
        ("api.example.org:8443", "api.example.org:8443", True),
        ("api.example.org:8443", "api.example.org", False),
        ("api.example.org:443", "api.example.org", True),
        ("api.example.org:443", "api.example.org:80", False),
        ("example.org", "api.example.org", False),
        ("*.example.org", "api.example.org", True),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "*.b.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "badexample.org", False),
        ("*.b.example.org", "*.example.org", False),
        ("127.0.0.1:80", "127.0.0.1", True),
        ("127.0.0.1:8000", "127.0.0.1", False),
    ],
)
def test_host_covers_another(allowed: str, wanted: str, is_covered: bool) -> None:
    assert (find_uncovered([wanted], [allowed]) == ()) is is_covered


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.192",
            "fec0::1",
            "3fff::1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *(
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "::",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
        ),
        *("2001:db8::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "2002:7f00:1::", "2002:a01:203::1", "64:ff9b::7f00:1"),
        *("64:ff9b::169.254.169.254", "64:ff9b:1::1", "2001:0:4136:e378::1"),
    ],
)
def test_address_inside_is_not_public_however_it_is_written(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::93.184.216.34", "2002:5db8:d822::1"]
)
def test_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


def test_setting_is_kept_in_normal_form() -> None:
    assert read_settings().network_hosts == ()
    settings = read_settings(network="allow:API.example.org, *.example.com,api.example.org")
    assert settings.network == "allow:api.example.org,*.example.com"
    assert settings.limits().network == ("api.example.org", "*.example.com")


@pytest.mark.parametrize("network", ["all", "allow", "allow:", "allow:a,,b", "allow:http://x.org", "allow:localhost"])
def test_wrong_setting_is_told_in_one_line(network: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^Wrong setting: network: .*(write none, or allow|no host|never leads)[^\n]*$"
    ):
        read_settings(network=network)
