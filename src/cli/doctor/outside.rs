//! What is reached from outside, and what we reach there.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use url::Url;

use super::Finding;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::outbound::{AddressPolicy, ApiClient, Reached, reach};
use crate::storage::tables::endpoints;
use crate::webhooks::endpoint;

const PUBLIC_URL: &str = "public URL";
const RECEIVER: &str = "endpoint";
/// How many receivers are asked at once, and how long each has.
const AT_ONCE: usize = 8;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const CERTIFICATE_DAYS_MIN: i64 = 14;

/// Where providers are told to go, whether that leads here, and what is in between.
pub(super) async fn public_url(config: &Config) -> Vec<Finding> {
    let Some(url) = &config.public_url else {
        let text = format!(
            "public_url is not set: providers are told {}, which leads nowhere from outside",
            config.public_url()
        );
        return vec![Finding::warn(PUBLIC_URL, text)];
    };
    if url.scheme() != "https" {
        let text = format!("{url} is not https: tokens can be read on the way; put TLS in front");
        return vec![Finding::warn(PUBLIC_URL, text), answer(url).await];
    }
    let proxies = if config.trusted_proxies.is_empty() {
        Finding::warn(
            "proxies",
            "public_url is https, so a proxy is in front: name it in trusted_proxies, or all clients \
             count as one",
        )
    } else {
        Finding::ok("proxies", "their X-Forwarded-For is believed")
    };
    vec![answer(url).await, proxies]
}

/// Whether a server of ours answers there.
async fn answer(url: &Url) -> Finding {
    let asked = async {
        let path = format!("{url}livez");
        let client = ApiClient::new()?;
        anyhow::Ok(client.send("GET", &path, None, "", None, &[]).await?)
    };
    match asked.await {
        Ok(answer) if answer.status == 200 && answer.body.contains("\"ok\"") => {
            Finding::ok(PUBLIC_URL, format!("{url} answers"))
        }
        Ok(answer) => Finding::warn(
            PUBLIC_URL,
            format!(
                "{url}livez answers {}, and not as Rollcall: let the name and the proxy lead here",
                answer.status
            ),
        ),
        Err(error) => Finding::warn(
            PUBLIC_URL,
            format!("{error:#}; start the server, or let the name and the proxy lead here"),
        ),
    }
}

/// Whether the enabled endpoints can be reached; none is sent an event.
pub(super) async fn receivers(config: &Config, endpoints: Vec<endpoints::Model>) -> Vec<Finding> {
    let policy = &AddressPolicy {
        allow_networks: config.webhooks.allow_networks.clone(),
    };
    let enabled = endpoints.into_iter().filter(endpoint::is_enabled);
    futures_util::stream::iter(enabled)
        .map(|row| receiver(policy, &config.webhooks.name_servers, row))
        .buffered(AT_ONCE)
        .collect()
        .await
}

async fn receiver(
    policy: &AddressPolicy,
    name_servers: &[SocketAddr],
    row: endpoints::Model,
) -> Finding {
    // What follows the host may hold a secret of the receiver's.
    let host = Url::parse(&row.url).ok();
    let host = host.as_ref().and_then(Url::host_str).unwrap_or("");
    let name = format!("{} at {host}", row.id);
    match reach(policy, name_servers, &row.url, ANSWER_WITHIN).await {
        Ok(reached) => judge(&name, &reached, SystemClock.now()),
        Err(failure) => Finding::fail(
            RECEIVER,
            format!("{name} cannot be reached: {failure}; its webhooks wait"),
        ),
    }
}

fn judge(name: &str, reached: &Reached, now: DateTime<Utc>) -> Finding {
    let soon = now + TimeDelta::days(CERTIFICATE_DAYS_MIN);
    match reached.certificate_ends {
        Some(end) if end < soon => Finding::warn(
            RECEIVER,
            format!(
                "{name} has a certificate that ends on {}; let its owner renew it",
                end.format("%Y-%m-%d")
            ),
        ),
        Some(_) | None => Finding::ok(RECEIVER, format!("{name} answers")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_certificate_that_ends_within_two_weeks_is_warned_of() {
        let now = DateTime::UNIX_EPOCH;
        let ending = |days| Reached {
            status: 405,
            certificate_ends: Some(now + TimeDelta::days(days)),
        };
        assert_eq!(judge("e", &ending(15), now).verdict, Verdict::Ok);
        let soon = judge("e", &ending(13), now);
        assert_eq!(soon.verdict, Verdict::Warn);
        assert!(soon.text.contains("1970-01-14"), "{}", soon.text);
    }
}
