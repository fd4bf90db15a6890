//! Where webhooks may go, held against tables and name servers of the tests' own, and what a receiver can
//! do to the one who sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rollcall::outbound::{AddressPolicy, FailureKind, Outcome, TimeLimits, WebhookClient};
use tokio::task::JoinSet;

use crate::support::dns::{Dns, Says};
use crate::support::hostile_receiver::{HostileReceiver, Manner};

const BODY: &str = r#"{"id":"event_01"}"#;
const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
/// No test waits for the limits of production.
const LIMITS: TimeLimits = TimeLimits {
    connect: Duration::from_secs(1),
    head: Duration::from_millis(1_500),
    total: Duration::from_secs(2),
};
/// The longest of them, and those for names, with some room for a busy machine.
const TOO_LONG: Duration = Duration::from_secs(8);
/// What an answer without an end may cost: what is read of it, and what the buffers of both ends hold.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Part of the loopback interface, and here what stands for the internet; the rest is out of bounds.
const OPEN: &str = "127.1.0.0/16";

fn policy(networks: &[&str]) -> AddressPolicy {
    AddressPolicy {
        allow_networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

/// Waits for as long as in production.
fn client(networks: &[&str], name_servers: &[SocketAddr]) -> WebhookClient {
    WebhookClient::new(policy(networks), TimeLimits::default(), name_servers).unwrap()
}

fn hasty_client(networks: &[&str]) -> WebhookClient {
    WebhookClient::new(policy(networks), LIMITS, &[]).unwrap()
}

async fn post(client: &WebhookClient, url: &str) -> Outcome {
    let url = url.parse().unwrap();
    client.post(&url, &[], BODY, Duration::MAX).await
}

fn kind(outcome: &Outcome) -> Option<FailureKind> {
    outcome.failure.as_ref().map(|failure| failure.kind)
}

// ---- addresses ----------------------------------------------------------------------------------

/// First and last of what is not on the internet. The guard has prefixes.
const OFF_LIMITS_V4: [(&str, &str); 14] = [
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("168.63.129.16", "168.63.129.16"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
];
const MULTICAST_AND_BEYOND: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 0);

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |(first, last): &(&str, &str)| {
        let ends: [Ipv4Addr; 2] = [first, last].map(|end| end.parse().unwrap());
        ends[0] <= address && address <= ends[1]
    };
    address < MULTICAST_AND_BEYOND && !OFF_LIMITS_V4.iter().any(within)
}

/// What the internet is made of, by the digits with which it begins; all else is not.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let digits: String = address.octets().map(|byte| format!("{byte:02x}")).concat();
    let begins = |beginnings: &[&str]| beginnings.iter().any(|one| digits.starts_with(one));
    if let Some(mapped) = digits.strip_prefix("00000000000000000000ffff") {
        return is_public_v4(u32::from_str_radix(mapped, 16).unwrap().into());
    }
    // 2001::/23 ends before 2001:0200.
    begins(&["2", "3"]) && !begins(&["200100", "200101", "20010db8", "2002", "3fff0"])
}

/// Addresses at the edges of networks as often as any.
fn any_v4() -> impl Strategy<Value = Ipv4Addr> {
    let edges = OFF_LIMITS_V4.map(|(first, last)| [first, last]).concat();
    let edge = (prop::sample::select(edges), -2_i64..=2).prop_map(|(edge, off)| {
        let edge: u32 = edge.parse::<Ipv4Addr>().unwrap().into();
        let moved = i64::from(edge).saturating_add(off);
        u32::try_from(moved.max(0)).unwrap().into()
    });
    prop_oneof![edge, any::<u32>().prop_map(Ipv4Addr::from)]
}

fn any_v6() -> impl Strategy<Value = Ipv6Addr> {
    let starts = [
        0_u16, 0x64, 0x100, 0x1fff, 0x2000, 0x2001, 0x2002, 0x2003, 0x2600, 0x3ffe, 0x3fff, 0x4000,
        0x5f00, 0xfc00, 0xfdff, 0xfe80, 0xfec0, 0xff02,
    ];
    let seconds = [
        0_u16, 1, 0x1ff, 0x200, 0xdb7, 0xdb8, 0xdb9, 0xfff, 0x1000, 0xff9b,
    ];
    let segments = (
        prop_oneof![prop::sample::select(starts.to_vec()), any::<u16>()],
        prop_oneof![prop::sample::select(seconds.to_vec()), any::<u16>()],
        prop::array::uniform6(prop_oneof![Just(0), any::<u16>()]),
    );
    segments.prop_map(|(a, b, [c, d, e, f, g, h])| Ipv6Addr::new(a, b, c, d, e, f, g, h))
}

/// The ways in which an IPv6 address says an IPv4 address, written as text.
fn wrapped(address: Ipv4Addr) -> [String; 6] {
    let [a, b, c, d] = address.octets();
    let halves = format!("{a:x}{b:02x}:{c:x}{d:02x}");
    let inverted = format!("{:x}{:02x}:{:x}{:02x}", !a, !b, !c, !d);
    [
        format!("::ffff:{address}"),
        format!("64:ff9b::{address}"),
        format!("64:ff9b:1:7::{halves}"),
        format!("2002:{halves}::1"),
        format!("2001:0:102:304:8000:1234:{inverted}"),
        format!("::ffff:0:{address}"),
    ]
}

proptest! {
    #[test]
    fn an_ipv4_address_is_refused_exactly_when_it_is_off_the_internet(address in any_v4()) {
        let is_fine = policy(&[]).check_ip(address.into()).is_ok();
        // The metadata service of one cloud lies within a network that is refused anyway.
        prop_assert_eq!(is_fine, is_public_v4(address), "{}", address);
    }

    #[test]
    fn an_ipv6_address_is_refused_exactly_when_it_is_off_the_internet(address in any_v6()) {
        let is_fine = policy(&[]).check_ip(address.into()).is_ok();
        prop_assert_eq!(is_fine, is_public_v6(address), "{}", address);
    }

    #[test]
    fn an_ipv4_address_within_an_ipv6_address_counts_even_where_the_outside_is_allowed(
        address in any_v4(),
    ) {
        let wrappings = ["64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::ffff:0:0:0/96"];
        for text in wrapped(address) {
            let outside: IpAddr = text.parse().unwrap();
            let is_fine = policy(&wrappings).check_ip(outside).is_ok();
            prop_assert_eq!(is_fine, is_public_v4(address), "{} in {}", address, text);
        }
    }

    #[test]
    fn no_other_spelling_of_an_address_passes(address in any_v4()) {
        let [a, b, c, d] = address.octets();
        let whole = u32::from(address);
        let low = whole & 0xffff;
        for host in [
            format!("{whole}"),
            format!("0x{whole:x}"),
            format!("0{whole:o}"),
            format!("{a}.{b}.{low}"),
            format!("0x{a:x}.{b}.{c}.{d}"),
            format!("{a}.{b}.{c}.0{d:o}"),
            format!("{address}."),
            format!("%3{}", address.to_string().replace('.', "%2e")),
        ] {
            let checked = policy(&[]).check_url(&format!("https://{host}/"));
            prop_assert!(checked.is_err(), "{}", host);
        }
    }

    #[test]
    fn what_stands_before_an_at_sign_never_passes(
        user in "[a-z0-9%:.]{1,12}", host in "[a-z]{1,8}\\.example",
    ) {
        let checked = policy(&[]).check_url(&format!("https://{user}@{host}/"));
        prop_assert!(checked.is_err() || user == ":", "{}@{}", user, host);
    }
}

// ---- names --------------------------------------------------------------------------------------

/// A receiver within the open network, a canary outside it on the same port, and a name server.
struct Scene {
    dns: Dns,
    receiver: HostileReceiver,
    canary: HostileReceiver,
    client: WebhookClient,
}

/// How long a lookup takes that nobody answers.
const SILENCE: Duration = Duration::from_secs(2);
const RECEIVER: &str = "127.1.0.1";
const CANARY: &str = "127.2.0.1";

impl Scene {
    async fn set() -> Self {
        let manner = || Manner::Says(NO_CONTENT.to_owned());
        let receiver = HostileReceiver::start_at(&format!("{RECEIVER}:0"), manner()).await;
        let port = receiver.address().port();
        let canary = HostileReceiver::start_at(&format!("{CANARY}:{port}"), manner()).await;
        let dns = Dns::start().await;
        let client = client(&[OPEN], &[dns.address()]);
        Self {
            dns,
            receiver,
            canary,
            client,
        }
    }

    async fn post(&self, name: &str) -> Outcome {
        let port = self.receiver.address().port();
        post(&self.client, &format!("http://{name}:{port}/")).await
    }
}

#[tokio::test]
async fn a_name_that_changes_between_two_looks_never_leads_outside() {
    let scene = Scene::set().await;
    // Both kinds of address are asked for each time; the answers change every third time.
    scene.dns.script("rebinding.example", |asked| {
        let address = if asked % 3 == 0 { CANARY } else { RECEIVER };
        Says::addresses(&[address])
    });

    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..30 {
        let outcome = scene.post("rebinding.example").await;
        match kind(&outcome) {
            None if outcome.status == Some(204) => accepted += 1,
            Some(FailureKind::ForbiddenAddress) => refused += 1,
            kind => panic!("{kind:?} {outcome:?}"),
        }
    }

    assert!(accepted > 5 && refused > 5, "{accepted} {refused}");
    assert_eq!(scene.receiver.connections(), accepted);
    assert_eq!(scene.canary.connections(), 0);
}

#[tokio::test]
async fn one_address_out_of_bounds_rejects_all_of_a_name() {
    let scene = Scene::set().await;
    let mut many: Vec<String> = (1..100).map(|last| format!("127.1.0.{last}")).collect();
    let all_fine: Vec<&str> = many.iter().map(String::as_str).collect();
    scene
        .dns
        .say("hundred-fine.example", Says::addresses(&all_fine));
    many.push(CANARY.to_owned());
    let last_is_not: Vec<&str> = many.iter().map(String::as_str).collect();
    scene
        .dns
        .say("hundred.example", Says::addresses(&last_is_not));
    scene
        .dns
        .say("mixed.example", Says::addresses(&[RECEIVER, CANARY]));
    scene
        .dns
        .say("mixed-kinds.example", Says::addresses(&[RECEIVER, "::1"]));
    scene.dns.say(
        "mapped.example",
        Says::addresses(&[RECEIVER, "::ffff:127.2.0.1"]),
    );
    scene.dns.say(
        "translated.example",
        Says::addresses(&[RECEIVER, "64:ff9b::7f02:1"]),
    );
    let target = vec![CANARY.parse().unwrap()];
    scene
        .dns
        .say("alias.example", Says::Alias("inside.example", target));
    scene
        .dns
        .say("public.example", Says::addresses(&["203.0.113.5"]));

    for name in [
        "hundred.example",
        "mixed.example",
        "mixed-kinds.example",
        "mapped.example",
        "translated.example",
        "alias.example",
        "public.example",
        "localhost",
        "app.localhost",
    ] {
        let outcome = scene.post(name).await;
        assert_eq!(
            kind(&outcome),
            Some(FailureKind::ForbiddenAddress),
            "{name} {outcome:?}"
        );
    }
    assert_eq!(scene.receiver.connections(), 0);
    let outcome = scene.post("hundred-fine.example").await;
    assert_eq!(outcome.status, Some(204), "{outcome:?}");
    assert_eq!(scene.canary.connections(), 0);
}

#[tokio::test]
async fn a_name_without_an_answer_is_a_failure_of_names_within_two_seconds() {
    let scene = Scene::set().await;
    scene
        .dns
        .say("loop.example", Says::Alias("loop.example", Vec::new()));
    scene.dns.say("empty.example", Says::addresses(&[]));
    scene.dns.say("silent.example", Says::Silence);
    scene.dns.say("garbled.example", Says::Garbage);

    for name in [
        "unknown.example",
        "loop.example",
        "empty.example",
        "silent.example",
        "garbled.example",
    ] {
        let outcome = scene.post(name).await;
        assert_eq!(kind(&outcome), Some(FailureKind::Dns), "{name} {outcome:?}");
        assert!(outcome.duration < TOO_LONG, "{name} {outcome:?}");
    }
    let connections = (scene.receiver.connections(), scene.canary.connections());
    assert_eq!(connections, (0, 0));
}

#[tokio::test]
async fn names_that_nobody_answers_for_do_not_hold_up_other_names() {
    let scene = Scene::set().await;
    scene.dns.say("silent.example", Says::Silence);
    scene.dns.say("fine.example", Says::addresses(&[RECEIVER]));
    let mut silent = JoinSet::new();
    for _ in 0..600 {
        let client = scene.client.clone();
        silent.spawn(async move { post(&client, "http://silent.example:1/").await });
    }
    tokio::task::yield_now().await;

    let started = Instant::now();
    let outcome = scene.post("fine.example").await;
    let took = started.elapsed();
    let unanswered = silent.join_all().await;

    assert_eq!(outcome.status, Some(204), "{outcome:?}");
    assert!(took < SILENCE, "{took:?}");
    assert!(unanswered.iter().all(|outcome| outcome.status.is_none()));
}

// ---- answers ------------------------------------------------------------------------------------

#[tokio::test]
async fn a_redirect_is_a_failure_and_where_it_leads_hears_nothing() {
    let canary = HostileReceiver::start(Manner::Says(NO_CONTENT.to_owned())).await;
    let client = client(&["127.0.0.0/8"], &[]);
    for status in [300, 301, 302, 303, 305, 307, 308] {
        for target in [canary.url(), String::from("http://169.254.169.254/latest/")] {
            let answer = format!(
                "HTTP/1.1 {status} Elsewhere\r\nLocation: {target}\r\nContent-Length: 2\r\n\r\nno"
            );
            let receiver = HostileReceiver::start(Manner::Says(answer)).await;
            let outcome = post(&client, &receiver.url()).await;
            assert_eq!(outcome.status, Some(status), "{outcome:?}");
            assert!(!outcome.is_success());
            assert_eq!(receiver.connections(), 1);
        }
    }
    assert_eq!(canary.connections(), 0);
}

/// What an answer must lead to: the status, and what went wrong besides.
type Expected = (Option<u16>, Option<FailureKind>);

async fn assert_ends(client: WebhookClient, manner: Manner, expected: Expected) {
    let what: String = format!("{manner:?}").chars().take(120).collect();
    let receiver = HostileReceiver::start(manner).await;
    let outcome = post(&client, &receiver.url()).await;
    assert_eq!(
        (outcome.status, kind(&outcome)),
        expected,
        "{what} {outcome:?}"
    );
    assert!(outcome.duration < TOO_LONG, "{what} {outcome:?}");
    assert!(outcome.body_excerpt.len() <= 4_096, "{what}");
    assert!(receiver.sent() < BYTES_MAX, "{what}: {}", receiver.sent());
}

async fn assert_all_end(client: WebhookClient, cases: Vec<(Manner, Expected)>) {
    let mut running = JoinSet::new();
    for (manner, expected) in cases {
        running.spawn(assert_ends(client.clone(), manner, expected));
    }
    running.join_all().await;
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[tokio::test]
async fn an_answer_that_takes_its_time_ends_at_the_limits() {
    let no_head = Some(FailureKind::HeadTimeout);
    let no_end = Some(FailureKind::BodyTimeout);
    assert_all_end(
        hasty_client(&["127.0.0.0/8"]),
        vec![
            (Manner::SaysAndHangs(text("")), (None, no_head)),
            (
                Manner::SaysAndHangs(text("HTTP/1.1 200 OK\r\nA: b")),
                (None, no_head),
            ),
            (
                Manner::Drips(text(""), text("HTTP/1.1 200 OK\r\nA: b\r\n")),
                (None, no_head),
            ),
            (
                Manner::Drips(
                    text("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
                    text("x"),
                ),
                (Some(200), no_end),
            ),
            (
                Manner::SaysAndHangs(text("HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\nhal")),
                (Some(500), no_end),
            ),
            (
                Manner::SaysAndHangs(text("HTTP/1.1 100 Continue\r\n\r\n")),
                (None, no_head),
            ),
            (
                Manner::Drips(text(""), text("HTTP/1.1 100 Continue\r\n\r\n")),
                (None, no_head),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_answer_without_an_end_is_dropped_after_its_start() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let page = "x".repeat(1_000);
    let huge = format!("{ok}Content-Length: 1073741824\r\n\r\n");
    let protocol = Some(FailureKind::Protocol);
    assert_all_end(
        client(&["127.0.0.0/8"], &[]),
        vec![
            (
                Manner::Repeats(format!("{ok}\r\n"), page.clone()),
                (Some(200), None),
            ),
            (Manner::Repeats(huge, page.clone()), (Some(200), None)),
            (
                Manner::Repeats(
                    format!("{ok}Transfer-Encoding: chunked\r\n\r\n"),
                    format!("3e8\r\n{page}\r\n"),
                ),
                (Some(200), None),
            ),
            // A million headers; one of ten megabytes; one too many; too long together.
            (
                Manner::Repeats(text(ok), text("A: b\r\n")),
                (None, protocol),
            ),
            (
                Manner::Repeats(format!("{ok}A: "), page.clone()),
                (None, protocol),
            ),
            (
                Manner::Says(format!(
                    "{ok}{}Content-Length: 0\r\n\r\n",
                    "A: b\r\n".repeat(100)
                )),
                (None, protocol),
            ),
            (
                Manner::Says(format!(
                    "{ok}A: {}\r\nContent-Length: 0\r\n\r\n",
                    page.repeat(17)
                )),
                (None, protocol),
            ),
            (
                Manner::Says(format!(
                    "{ok}A: {}\r\nContent-Length: 0\r\n\r\n",
                    page.repeat(15)
                )),
                (Some(200), None),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_answer_of_another_kind_is_told_as_what_it_is() {
    let protocol = Some(FailureKind::Protocol);
    let status = |line: &str| Manner::Says(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n"));
    let early = "HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let continued = format!(
        "{}HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(3)
    );
    assert_all_end(
        client(&["127.0.0.0/8"], &[]),
        vec![
            (status("204 No Content"), (Some(204), None)),
            (status("410 Gone"), (Some(410), None)),
            (status("599 What"), (Some(599), None)),
            (Manner::Says(continued), (Some(204), None)),
            (Manner::SaysAtOnce(text(early)), (Some(500), None)),
            // The status of a broken answer counts: the receiver has the event.
            (
                Manner::SaysAndResets(text("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")),
                (Some(200), protocol),
            ),
            (
                Manner::Says(text(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
                )),
                (Some(200), protocol),
            ),
            (Manner::Resets, (None, protocol)),
            (Manner::Says(text("")), (None, protocol)),
            (
                Manner::Says(text("\u{0}\u{1}garbage\r\n\r\n")),
                (None, protocol),
            ),
            (
                Manner::Says(text("HTTP/1.1 99999 No\r\n\r\n")),
                (None, protocol),
            ),
            (
                Manner::Says(text("HTTP/1.1 200 OK\r\nbad header\r\n\r\n")),
                (None, protocol),
            ),
            // What a server says that speaks HTTP/2 only: its settings.
            (
                Manner::Says(text("\u{0}\u{0}\u{0}\u{4}\u{0}\u{0}\u{0}\u{0}\u{0}")),
                (None, protocol),
            ),
            // And one that switches to something else.
            (
                Manner::Says(text(
                    "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
                )),
                (Some(101), None),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_compressed_answer_stays_compressed_and_a_retry_after_stays_text() {
    let client = client(&["127.0.0.0/8"], &[]);
    let head = "HTTP/1.1 429 Later\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n";
    for (header, expected) in [
        ("Retry-After: 0\r\n", Some("0")),
        ("Retry-After: 1000000000\r\n", Some("1000000000")),
        ("Retry-After: -5\r\n", Some("-5")),
        (
            "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n",
            Some("Fri, 31 Dec 1999 23:59:59 GMT"),
        ),
        ("Retry-After: soon\r\n", Some("soon")),
        ("Retry-After: \r\n", None),
        ("", None),
    ] {
        let receiver =
            HostileReceiver::start(Manner::Says(format!("{head}{header}\r\n1234"))).await;
        let outcome = post(&client, &receiver.url()).await;
        assert_eq!(
            (outcome.status, kind(&outcome)),
            (Some(429), None),
            "{outcome:?}"
        );
        assert_eq!(outcome.retry_after.as_deref(), expected);
        assert_eq!(outcome.body_excerpt, "1234");
    }
}
