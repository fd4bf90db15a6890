//! Reads the files of hostile requests; the language is explained in [`super`]. Pure.

use std::collections::BTreeMap;

/// What a request may be answered with.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    /// The statuses; `None` is a connection closed without an answer.
    pub(super) statuses: Vec<Option<u16>>,
    /// The `scimType`, if the file says one.
    pub(super) scim_type: Option<String>,
    /// Whether the directory that is asked may change.
    pub(super) may_write: bool,
    /// Whether an error comes from the HTTP library, and need not be one of SCIM.
    pub(super) is_plain: bool,
}

/// A request to be made.
#[derive(Clone, Debug, Default)]
pub(super) struct Case {
    /// The number of its line.
    pub(super) line: usize,
    pub(super) expected: Expected,
    /// `RAW` means that the body is all that is sent.
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<String>,
    pub(super) body: Option<String>,
    /// Whether nothing more is sent afterwards.
    pub(super) is_cut: bool,
    /// What stands for `{each}`.
    pub(super) each: Option<String>,
}

/// What stands for a name in braces.
pub(super) type Names = BTreeMap<&'static str, String>;

/// The requests of a file.
pub(super) fn read(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut variants: Vec<(usize, String)> = Vec::new();
    let mut current: Option<Case> = None;
    for (index, line) in text.lines().enumerate() {
        let (line, number) = (line.trim_end(), index + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(more) = line.strip_prefix("  ") else {
            finish(&mut cases, current.take(), &mut variants);
            current = Some(begin(number, line));
            continue;
        };
        let case = current.as_mut().expect("a request before its parts");
        if let Some(header) = more.strip_prefix("> ") {
            case.headers.push(header.to_owned());
        } else if let Some(variant) = more.strip_prefix("- ").or((more == "-").then_some("")) {
            variants.push((number, variant.to_owned()));
        } else if more == "! cut" {
            case.is_cut = true;
        } else {
            let body = case.body.get_or_insert_default();
            if !body.is_empty() {
                body.push('\n');
            }
            body.push_str(more);
        }
    }
    finish(&mut cases, current, &mut variants);
    cases
}

fn finish(cases: &mut Vec<Case>, case: Option<Case>, variants: &mut Vec<(usize, String)>) {
    let Some(case) = case else {
        return;
    };
    if variants.is_empty() {
        cases.push(case);
        return;
    }
    for (line, variant) in variants.drain(..) {
        cases.push(Case {
            line,
            each: Some(variant),
            ..case.clone()
        });
    }
}

/// `400:invalidFilter GET /Users?filter=x`
fn begin(line: usize, text: &str) -> Case {
    let mut words = text.splitn(3, ' ');
    let expected = words.next().expect("a status");
    Case {
        line,
        expected: expectation(expected),
        method: words.next().expect("a method").to_owned(),
        target: words.next().unwrap_or_default().to_owned(),
        ..Case::default()
    }
}

fn expectation(text: &str) -> Expected {
    let (text, scim_type) = match text.split_once(':') {
        Some((text, scim_type)) => (text, Some(scim_type.to_owned())),
        None => (text, None),
    };
    let statuses = text
        .trim_end_matches(['+', '~'])
        .split('/')
        .map(|status| (status != "closed").then(|| status.parse().expect("a status is a number")));
    Expected {
        statuses: statuses.collect(),
        scim_type,
        may_write: text.contains('+'),
        is_plain: text.contains('~'),
    }
}

impl Case {
    /// The headers as the file has them, with what stands for `{each}`.
    pub(super) fn headers(&self) -> Vec<String> {
        let each = self.each.as_deref().unwrap_or_default();
        let headers = self.headers.iter();
        headers
            .map(|header| header.replace("{each}", each))
            .collect()
    }

    /// The text with everything in it that stands for something else put in its place.
    pub(super) fn bytes(&self, text: &str, names: &Names) -> Vec<u8> {
        let mut text = match &self.each {
            Some(variant) => text.replace("{each}", variant),
            None => text.to_owned(),
        };
        for (name, value) in names {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        let mut bytes = Vec::new();
        let repeated = repeat(&text);
        let mut rest = repeated.as_str();
        while let Some((before, behind)) = rest.split_once('⟨') {
            let (hex, after) = behind.split_once('⟩').expect("⟩ behind ⟨");
            bytes.extend_from_slice(before.as_bytes());
            bytes.extend(hex.split(' ').map(|byte| {
                u8::from_str_radix(byte, 16).expect("bytes between ⟨ and ⟩ are hexadecimal")
            }));
            rest = after;
        }
        bytes.extend_from_slice(rest.as_bytes());
        bytes
    }
}

/// Writes out what is to be repeated: `«3 × a#, joined by -»` is `a0-a1-a2`.
fn repeat(text: &str) -> String {
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('«') {
        let (inside, after) = behind.split_once('»').expect("» behind «");
        let (count, piece) = inside.split_once(" × ").expect("× in «»");
        let (piece, joint) = piece.split_once(", joined by ").unwrap_or((piece, ""));
        let count: usize = count.parse().expect("a count in front of ×");
        whole.push_str(before);
        for number in 0..count {
            whole.push_str(if number == 0 { "" } else { joint });
            whole.push_str(&piece.replace('#', &number.to_string()));
        }
        rest = after;
    }
    whole + rest
}

/// A target with what no URL can have in percent encoding.
pub(super) fn encode(target: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(target.len());
    for byte in target {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}[]#".contains(byte) {
            encoded.push(*byte);
        } else {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    encoded
}
