//! Loading from all layers, and every error a person can meet.

use super::*;

fn load(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load_with(None, environment)
}

fn load_with(file: Option<&Path>, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let pairs = environment
        .iter()
        .map(|(name, value)| (String::from(*name), String::from(*value)));
    Config::load_from(file, pairs)
}

fn load_file(text: &str) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rollcall.toml");
    std::fs::write(&path, text).unwrap();
    load_with(Some(&path), &[]).map_err(|error| {
        error
            .to_string()
            .replace(&path.display().to_string(), "FILE")
    })
}

fn refusal(name: &str, value: &str) -> String {
    load(&[(name, value)]).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = load(&[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.public_url().as_str(), "http://127.0.0.1:8080/");
    assert_eq!(
        config.database_url().to_string(),
        "sqlite:rollcall-data/rollcall.sqlite3"
    );
    assert_eq!(
        config.master_key_file(),
        Path::new("rollcall-data/master.key")
    );
    assert!(config.master_key.is_none());
    assert!(config.trusted_proxies.is_empty() && config.webhooks.allow_networks.is_empty());
    assert!(config.migrate && config.node.web && config.node.dispatcher && config.node.scheduler);
    assert_eq!(config.shutdown_timeout_seconds, 25);
    assert_eq!(
        (
            config.limits.scim_requests_per_second,
            config.limits.scim_burst
        ),
        (100, 500)
    );
    assert_eq!(config.limits.api_requests_per_second, 100);
    assert_eq!(config.limits.failed_auth_per_minute, 20);
    assert_eq!(config.limits.scim_user_body_bytes, 1024 * 1024);
    assert_eq!(config.limits.scim_group_body_bytes, 32 * 1024 * 1024);
    assert_eq!(config.limits.api_body_bytes, 1024 * 1024);
    assert_eq!(config.limits.bodies_in_flight_bytes, 256 * 1024 * 1024);
    assert_eq!(config.limits.request_target_bytes, 16 * 1024);
    assert_eq!(config.limits.connections_per_address, 512);
    assert_eq!(config.log.format, telemetry::Format::Auto);
    assert_eq!(config.log.level, "info");
}

/// Loading the defaults already fails on a setting that `Config` does not have, or has in excess.
#[test]
fn every_default_has_a_comment_of_its_own() {
    let mut is_documented = false;
    for line in include_str!("../../config/default.toml").lines() {
        if line.is_empty() || line.starts_with('[') {
            is_documented = false;
        } else if line.starts_with('#') {
            is_documented = true;
        } else {
            assert!(is_documented, "{line} has no comment");
            is_documented = false;
        }
    }
}

#[test]
fn the_environment_goes_before_the_file_and_the_file_before_the_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rollcall.toml");
    let text = "data_dir = \"/from/file\"\nlisten = \"[::]:9000\"\n[limits]\nscim_burst = 900\n";
    std::fs::write(&path, text).unwrap();
    let environment = [
        ("ROLLCALL_DATA_DIR", "/from/environment"),
        ("ROLLCALL_NODE__SCHEDULER", "False"),
        ("ROLLCALL_LIMITS__SCIM_REQUESTS_PER_SECOND", " 7 "),
        (
            "ROLLCALL_TRUSTED_PROXIES",
            "10.0.0.0/8, ::1  192.168.7.7/24",
        ),
        ("ROLLCALL_PUBLIC_URL", ""),
        ("ROLLCALL_URL", "not a setting"),
        ("ROLLCALL_API_KEY", "not a setting"),
        ("ROLLCALL_CONFIG", "not a setting"),
        ("PATH", "foreign"),
    ];
    let config = load_with(Some(&path), &environment).unwrap();
    assert_eq!(config.data_dir, Path::new("/from/environment"));
    assert_eq!(config.public_url().as_str(), "http://[::1]:9000/");
    assert!(!config.node.scheduler);
    assert_eq!(
        (
            config.limits.scim_requests_per_second,
            config.limits.scim_burst
        ),
        (7, 900)
    );
    let proxies: Vec<String> = config
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(proxies, ["10.0.0.0/8", "::1/128", "192.168.7.0/24"]);
}

#[test]
fn a_file_may_write_lists_and_settings_as_text_or_as_they_are() {
    let config = load_file(
        "migrate = \"false\"\n[webhooks]\nallow_networks = [\"127.0.0.0/8\", \"::1\"]\n\
         name_servers = \"10.0.0.53 [::1]:5353\"\n\
         [log]\nformat = \"json\"\nlevel = \"info,rollcall=debug\"\n[limits]\n",
    )
    .unwrap();
    assert!(!config.migrate);
    assert_eq!(config.webhooks.allow_networks.len(), 2);
    let servers = config.webhooks.name_servers.iter();
    let servers: Vec<String> = servers.map(ToString::to_string).collect();
    assert_eq!(servers, ["10.0.0.53:53", "[::1]:5353"]);
    assert_eq!(config.log.format, telemetry::Format::Json);
}

#[test]
fn a_wrong_value_is_named_with_its_variable_and_what_is_allowed() {
    assert_eq!(
        refusal("ROLLCALL_LISTEN", "abc"),
        "ROLLCALL_LISTEN from the environment: \"abc\" is not an address; \
         expected IP:PORT such as 127.0.0.1:8080"
    );
    for (name, value, expected) in [
        (
            "ROLLCALL_LIMITS__SCIM_BURST",
            "-1",
            "\"-1\" is not possible; expected a whole number",
        ),
        (
            "ROLLCALL_LIMITS__SCIM_BURST",
            "4294967296",
            "expected a whole number from 0",
        ),
        ("ROLLCALL_LIMITS__SCIM_BURST", "99", "at least"),
        ("ROLLCALL_LIMITS__API_BODY_BYTES", "10", "expected 1024 to"),
        (
            "ROLLCALL_LIMITS__BODIES_IN_FLIGHT_BYTES",
            "33554431",
            "expected 33554432 to 4294967295 bytes",
        ),
        (
            "ROLLCALL_LIMITS__REQUEST_TARGET_BYTES",
            "65535",
            "expected 1024 to 65534 bytes",
        ),
        (
            "ROLLCALL_MIGRATE",
            "yes",
            "\"yes\" is not possible; expected true or false",
        ),
        (
            "ROLLCALL_LOG__FORMAT",
            "yaml",
            "expected \"auto\", \"text\" or \"json\"",
        ),
        ("ROLLCALL_LOG__LEVEL", "loud", "is not a log level"),
        (
            "ROLLCALL_TRUSTED_PROXIES",
            "10.0.0.0/8,proxy",
            "\"proxy\" is not a network",
        ),
        (
            "ROLLCALL_WEBHOOKS__NAME_SERVERS",
            "10.0.0.53,dns.example.com",
            "\"dns.example.com\" is not the address of a name server",
        ),
        (
            "ROLLCALL_PUBLIC_URL",
            "directory.example.com",
            "expected a URL",
        ),
        (
            "ROLLCALL_PUBLIC_URL",
            "https://example.com/prefix",
            "without user, path or query",
        ),
        ("ROLLCALL_DATA_DIR", "", "expected a path"),
        (
            "ROLLCALL_DATABASE_URL",
            "mysql://u:s3cret@h/d",
            "expected sqlite:PATH or postgres://",
        ),
        ("ROLLCALL_MASTER_KEY", "s3cret", "expected rcmk_"),
        (
            "ROLLCALL_SHUTDOWN_TIMEOUT_SECONDS",
            "0",
            "expected 1 to 600",
        ),
    ] {
        let message = refusal(name, value);
        assert!(
            message.starts_with(&format!("{name} from the environment: ")),
            "{message}"
        );
        assert!(message.contains(expected), "{message}");
        assert!(
            !message.contains('\n') && !message.contains("s3cret"),
            "{message}"
        );
    }
}

#[test]
fn a_wrong_value_in_a_file_is_named_with_the_file() {
    for (text, expected) in [
        (
            "listen = 8080",
            "listen in FILE: 8080 is not possible; expected IP:PORT",
        ),
        (
            "listen = {}",
            "listen in FILE: this kind of value is not possible; expected IP:PORT",
        ),
        (
            "[limits]\nscim_burst = 1.5",
            "limits.scim_burst in FILE: this kind of value",
        ),
        (
            "[limits]\nscim_bursts = 1",
            "limits.scim_bursts in FILE: there is no such setting; did you mean limits.scim_burst?",
        ),
        (
            "limits = 3",
            "limits in FILE: this is a section and has no value of its own",
        ),
        ("listen = \"x", "the configuration file FILE: line 1: "),
        (
            "trusted_proxies = [1]",
            "trusted_proxies in FILE: this kind of value is not possible",
        ),
        (
            "[node]\nweb = false\ndispatcher = false\nscheduler = false",
            "node.web in FILE: with node.web",
        ),
    ] {
        let message = load_file(text).unwrap_err();
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
    let missing = load_with(Some(Path::new("/nonexistent.toml")), &[])
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("the configuration file /nonexistent.toml: it cannot be read"),
        "{missing}"
    );
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_known_one() {
    assert_eq!(
        refusal("ROLLCALL_LISTN", "x"),
        "ROLLCALL_LISTN from the environment: there is no such setting; \
         did you mean ROLLCALL_LISTEN?"
    );
    let one_underscore = refusal("ROLLCALL_LOG_LEVEL", "x");
    assert!(
        one_underscore.ends_with("did you mean ROLLCALL_LOG__LEVEL?"),
        "{one_underscore}"
    );
    assert!(refusal("ROLLCALL_LIMITS", "x").contains("section"));
    assert!(refusal("ROLLCALL_LISTEN__PORT", "1").contains("no such setting"));
    assert!(refusal("ROLLCALL_SOMETHING_ELSE_ENTIRELY", "x").contains("config/default.toml"));
}

#[test]
fn what_is_kept_is_kept_for_long_enough() {
    let short = refusal("ROLLCALL_EVENTS__RETENTION", "6d");
    assert!(short.contains("at least 7d"), "{short}");
    let below = refusal("ROLLCALL_EVENTS__RETENTION_MAX", "89d");
    assert!(below.contains("events.retention"), "{below}");
    let none = refusal("ROLLCALL_DELIVERIES__RETENTION", "0");
    assert!(none.contains("at least 7d"), "{none}");
    let token = refusal("ROLLCALL_METRICS__TOKEN", "s3cret");
    assert!(token.contains("16") && !token.contains("s3cret"), "{token}");
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let key = MasterKey::generate();
    let key = key.expose();
    let mut environment = vec![
        ("ROLLCALL_MASTER_KEY", key.as_str()),
        ("ROLLCALL_DATABASE_URL", "postgres://u:s3cret@h/d"),
    ];
    let config = load(&environment).unwrap();
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("s3cret") && !shown.contains(key.as_str()),
        "{shown}"
    );
    assert_eq!(config.database_url().expose(), "postgres://u:s3cret@h/d");

    environment.push(("ROLLCALL_MASTER_KEY_FILE", "/etc/rollcall/key"));
    let message = load(&environment).unwrap_err().to_string();
    assert!(message.contains("expected one of the two"), "{message}");
}

#[test]
fn the_process_environment_can_be_read() {
    // Nothing in a test's environment begins with our prefix; that it loads is the point.
    assert!(
        Config::load(None).is_ok()
            || std::env::vars_os()
                .any(|(name, _)| { name.to_string_lossy().starts_with("ROLLCALL_") })
    );
}
