//! Tables of addresses and URLs that must and must not be reachable.

use super::*;

fn policy(networks: &[&str]) -> AddressPolicy {
    AddressPolicy {
        allow_networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn addresses_on_the_internet_are_fine() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "168.63.129.15",
        "::ffff:8.8.8.8",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2a00::1",
        "2003::1",
    ] {
        assert_eq!(policy(&[]).check_ip(ip(address)), Ok(()), "{address}");
    }
}

#[test]
fn everything_else_is_forbidden() {
    for address in [
        "0.0.0.0",
        "0.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.0",
        "192.0.0.170",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "::2",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:1ff::1",
        "2001:db8::1",
        "2002::1",
        "3fff::1",
        "3fff:fff::1",
        "5f00::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "feff::1",
        "ff02::1",
        "4000::1",
        "1::1",
        // An IPv4 address inside an IPv6 one.
        "::ffff:127.0.0.1",
        "::ffff:10.1.2.3",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2001:0:0808:0808:0:0:80ff:fffe",
    ] {
        let refused = policy(&[]).check_ip(ip(address));
        assert!(
            refused.is_err_and(|error| error.address == ip(address)),
            "{address}"
        );
    }
}

#[test]
fn an_allowed_network_is_exempt_and_its_neighbours_are_not() {
    let policy = policy(&["10.1.0.0/16", "::1/128", "64:ff9b::/96"]);
    for address in [
        "10.1.2.3",
        "::ffff:10.1.2.3",
        "::1",
        "64:ff9b::8.8.8.8",
        "64:ff9b::10.1.0.1",
    ] {
        assert_eq!(policy.check_ip(ip(address)), Ok(()), "{address}");
    }
    // What is wrapped counts even where the wrapping is allowed, and the other way round.
    for address in [
        "10.2.0.1",
        "127.0.0.1",
        "64:ff9b::10.2.0.1",
        "2002:a01:203::",
        "::10.1.2.3",
    ] {
        assert!(policy.check_ip(ip(address)).is_err(), "{address}");
    }
    assert!(policy.check_allowed_ip(ip("10.1.2.3")).is_ok());
    assert!(policy.check_allowed_ip(ip("8.8.8.8")).is_err());
}

#[test]
fn teredo_is_unwrapped() {
    assert_eq!(
        embedded_v4(ip("2001:0:0808:0808:0:0:80ff:fffe")),
        Some(Ipv4Addr::LOCALHOST)
    );
    assert_eq!(embedded_v4(ip("::1")), None);
    assert_eq!(
        embedded_v4(ip("2002:a9fe:a9fe::1")),
        Some(Ipv4Addr::new(169, 254, 169, 254))
    );
}

#[test]
fn ordinary_urls_are_fine() {
    for url in [
        "https://example.com",
        " https://example.com/hooks?tenant=1#x\n",
        "https://example.com:8443/",
        "HTTPS://EXAMPLE.COM:443/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
        "https://[2606:4700:0:0:0:0:0:1111]:8443/",
        "https://bücher.example/",
    ] {
        let target = policy(&[]).check_url(url).unwrap();
        assert!(!target.allowed_networks_only, "{url}");
    }
}

#[test]
fn other_urls_are_refused_with_the_reason() {
    let long_name = format!("https://{}example.com/", "a.".repeat(130));
    let long_url = format!("https://example.com/{}", "a".repeat(2_048));
    for (url, reason) in [
        ("", "not a URL"),
        ("example.com/hooks", "not a URL"),
        ("https://", "not a URL"),
        ("https:///\\evil", "backslash"),
        ("https://exa mple.com", "space"),
        ("https://exam\tple.com", "space"),
        ("ftp://example.com", "https://"),
        ("file:///etc/passwd", "https://"),
        ("javascript:alert(1)", "https://"),
        ("http://example.com", "plain http"),
        ("http://8.8.8.8/", "plain http"),
        ("https://user@example.com", "user name"),
        ("https://:secret@example.com", "user name"),
        ("https://example.com:22/", "port 22"),
        ("https://example.com:0/", "port 0"),
        ("https://127.0.0.1/", "allow_networks"),
        ("https://[::1]/", "allow_networks"),
        ("https://[::ffff:10.0.0.1]/", "allow_networks"),
        ("https://169.254.169.254/latest/meta-data", "metadata"),
        ("https://localhost/", "names this machine"),
        ("http://app.localhost.:3000/", "names this machine"),
        // Disguises of 127.0.0.1 and of 8.8.8.8.
        ("http://2130706433/", "allow_networks"),
        ("https://0x7f.1/", "allow_networks"),
        ("https://0177.0.0.1/", "allow_networks"),
        ("https://134744072/", "another spelling of 8.8.8.8"),
        ("https://0x8.0x8.0x8.0x8/", "another spelling of 8.8.8.8"),
        ("https://8.8.2056/", "another spelling of 8.8.8.8"),
        ("https://8.8.8.8./", "another spelling of 8.8.8.8"),
        ("https://⑧.8.8.8/", "another spelling of 8.8.8.8"),
        ("https:8.8.8.8/", "another spelling of 8.8.8.8"),
        (&long_name, "host name is too long"),
        (&long_url, "URL is too long"),
    ] {
        let message = policy(&[]).check_url(url).unwrap_err().to_string();
        assert!(message.contains(reason), "{url:?}: {message}");
        assert!(!message.contains('\n'));
    }
}

#[test]
fn towards_allowed_networks_plain_http_and_any_port_are_possible() {
    let policy = policy(&["127.0.0.0/8", "10.0.0.0/8"]);
    for url in [
        "http://localhost:3000/hooks",
        "http://receiver.internal/",
        "https://receiver.internal:9443/",
        "http://127.0.0.1:3000/",
        "https://10.1.2.3/",
        "http://2130706433/",
    ] {
        assert!(
            policy.check_url(url).unwrap().allowed_networks_only,
            "{url}"
        );
    }
    assert!(
        !policy
            .check_url("https://example.com/")
            .unwrap()
            .allowed_networks_only
    );
    for url in [
        "http://8.8.8.8/",
        "https://8.8.8.8:9443/",
        "http://192.168.0.1/",
        "http://u@10.0.0.1/",
    ] {
        assert!(policy.check_url(url).is_err(), "{url}");
    }
}
