//! Until when a certificate is valid (RFC 5280, section 4.1), which the TLS library checks and does not tell.

use chrono::{DateTime, NaiveDateTime, Utc};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When the certificate in DER ends; `None` if it is not one.
pub(super) fn ends_at(certificate: &[u8]) -> Option<DateTime<Utc>> {
    let (certificate, _) = expect(SEQUENCE, certificate)?;
    let (body, _) = expect(SEQUENCE, certificate)?;
    let after_version = expect(VERSION, body).map_or(body, |(_, rest)| rest);
    // Serial number, algorithm, issuer.
    let mut rest = after_version;
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (_, _, not_after) = element(validity)?;
    let (tag, text, _) = element(not_after)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

fn time(tag: u8, text: &str) -> Option<DateTime<Utc>> {
    let text = match tag {
        GENERALIZED_TIME => text.to_owned(),
        // Two digits stand for 1950 to 2049.
        UTC_TIME if text.starts_with(['0', '1', '2', '3', '4']) => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        _ => return None,
    };
    let time = NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?;
    Some(time.and_utc())
}

/// The content of the first element, if it has this tag, and what follows it.
fn expect(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(input)?;
    (found == tag).then_some((content, rest))
}

/// The tag and content of the first element, and what follows it.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        let length = digits
            .iter()
            .fold(0, |length, digit| length << 8 | usize::from(*digit));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    // Made with openssl req -x509 -newkey ed25519; its end as openssl x509 -enddate says it.
    const CERTIFICATE: &str = "\
        MIIBSjCB/aADAgECAhQTSGiLHm7hcd4b2ZUPdg81uUE8OTAFBgMrZXAwGzEZMBcGA1UEAwwQcmVjZWl2ZXIuZXhh\
        bXBsZTAeFw0yNjExMjIxNjU3MTlaFw0yODA0MDUxNjU3MTlaMBsxGTAXBgNVBAMMEHJlY2VpdmVyLmV4YW1wbGUw\
        KjAFBgMrZXADIQDXVhHIObCqXO1ZIIFvXGGY5fOULiIiuV5ZYBZWY4W6c6NTMFEwHQYDVR0OBBYEFNA15R00X0Wl\
        9cVmmt6D0HBAUQTgMB8GA1UdIwQYMBaAFNA15R00X0Wl9cVmmt6D0HBAUQTgMA8GA1UdEwEB/wQFMAMBAf8wBQYD\
        K2VwA0EA3E7lIYrVZ8PUmy+mQYzqrfWv2Ovj0t41elH2cxxZBSgc+/5HMlTJ1orvbRJWJ/HVJ34Jp9pcifd9tIoZ\
        bxTjCQ==";
    const END: &str = "2028-04-05T16:57:19+00:00";

    #[test]
    fn the_end_is_the_one_that_openssl_reads() {
        let certificate = STANDARD.decode(CERTIFICATE).unwrap();
        assert_eq!(ends_at(&certificate).unwrap().to_rfc3339(), END);
        for length in 0..certificate.len() {
            assert!(ends_at(&certificate[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn both_kinds_of_time_are_read() {
        for (tag, text, expected) in [
            (UTC_TIME, "491231235959Z", "2049-12-31T23:59:59+00:00"),
            (UTC_TIME, "500101000000Z", "1950-01-01T00:00:00+00:00"),
            (
                GENERALIZED_TIME,
                "20500101000000Z",
                "2050-01-01T00:00:00+00:00",
            ),
        ] {
            assert_eq!(time(tag, text).unwrap().to_rfc3339(), expected);
        }
        assert!(time(0x04, "500101000000Z").is_none());
    }
}
