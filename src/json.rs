//! Canonical JSON: text that survives `JSON.stringify(JSON.parse(text))` unchanged.
//!
//! Older `WorkOS` SDKs for Node (up to 9.3.0) verify a webhook over the re-serialized parsed
//! object and not over the bytes received. A body that JavaScript would write differently fails
//! there, so every body that we sign is written by [`canonical`], exactly as ECMAScript's
//! `JSON.stringify` would:
//!
//! - no white space;
//! - numbers as `Number::toString` prints the double (`1.0` is `1`, `1e21` is `1e+21`);
//! - keys that are array indexes first and ascending, as JavaScript orders properties, then the
//!   others in the order of the map (RFC 8785 sorts all keys as text, which JavaScript would undo);
//! - only the quote, the backslash and the control characters below U+0020 escaped.
//!
//! Pure; called by whoever writes an event body. Reading such text back gives the same value only
//! with `serde_json`'s feature `float_roundtrip`: its default parser is off by one unit in the
//! last place now and then, which would turn an untouched number into a change.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

/// Whole numbers up to here are exact as doubles.
const EXACT_INTEGER_MAX: u64 = 1 << 53;
/// ECMAScript's array indexes end one below 2^32 - 1.
const ARRAY_INDEX_MAX: u64 = 4_294_967_294;
/// Exponents at which `Number::toString` turns to the scientific notation.
const PLAIN_DIGITS_MAX: i32 = 21;
const LEADING_ZEROS_MIN: i32 = -6;

/// Writes the value as `JSON.stringify` would.
///
/// ```
/// let value = serde_json::json!({ "b": 1.0, "10": "é", "9": [1e-7, null] });
/// assert_eq!(rollcall::json::canonical(&value), r#"{"9":[1e-7,null],"10":"é","b":1}"#);
/// ```
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value);
    text
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => write_number(text, number),
        Value::String(string) => write_string(text, string),
        Value::Array(items) => write_array(text, items),
        Value::Object(members) => write_object(text, members),
    }
}

fn write_array(text: &mut String, items: &[Value]) {
    text.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_value(text, item);
    }
    text.push(']');
}

fn write_object(text: &mut String, members: &Map<String, Value>) {
    let mut indexes: Vec<(u64, &String, &Value)> = members
        .iter()
        .filter_map(|(key, value)| array_index(key).map(|index| (index, key, value)))
        .collect();
    indexes.sort_unstable_by_key(|(index, _, _)| *index);
    let names = members.iter().filter(|(key, _)| array_index(key).is_none());

    text.push('{');
    let mut is_first = true;
    for (key, value) in indexes
        .iter()
        .map(|(_, key, value)| (*key, *value))
        .chain(names)
    {
        if !is_first {
            text.push(',');
        }
        is_first = false;
        write_string(text, key);
        text.push(':');
        write_value(text, value);
    }
    text.push('}');
}

/// The key as an array index, if it is written the way an array index is.
fn array_index(key: &str) -> Option<u64> {
    let is_canonical = match key.as_bytes() {
        [b'0'] => true,
        [first, ..] => *first != b'0' && key.len() <= 10 && key.bytes().all(|b| b.is_ascii_digit()),
        [] => false,
    };
    let index = if is_canonical {
        key.parse().ok()?
    } else {
        return None;
    };
    (index <= ARRAY_INDEX_MAX).then_some(index)
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            control if control < ' ' => {
                // Writing to a String cannot fail.
                _ = write!(text, "\\u{:04x}", u32::from(control));
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

fn write_number(text: &mut String, number: &Number) {
    if let Some(whole) = number.as_i64()
        && whole.unsigned_abs() <= EXACT_INTEGER_MAX
    {
        _ = write!(text, "{whole}");
        return;
    }
    match number.as_f64() {
        Some(double) if double.is_finite() => write_double(text, double),
        // JSON has no infinity; `JSON.stringify` writes null for it.
        _ => text.push_str("null"),
    }
}

/// ECMA-262, `Number::toString`, radix 10. Rust's `{:e}` gives the same shortest digits.
fn write_double(text: &mut String, double: f64) {
    if double == 0.0 {
        // Minus zero as well.
        text.push('0');
        return;
    }
    let scientific = format!("{:e}", double.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if double < 0.0 {
        text.push('-');
    }
    write_digits(text, &digits, exponent + 1);
}

/// Lays out `digits` with the decimal point after the first `point` of them.
fn write_digits(text: &mut String, digits: &str, point: i32) {
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |text: &mut String, count: i32| (0..count).for_each(|_| text.push('0'));
    if point > PLAIN_DIGITS_MAX || point <= LEADING_ZEROS_MIN {
        let (first, rest) = split_digits(digits, 1);
        text.push_str(first);
        if !rest.is_empty() {
            text.push('.');
            text.push_str(rest);
        }
        _ = write!(text, "e{:+}", point - 1);
    } else if point <= 0 {
        text.push_str("0.");
        zeros(text, -point);
        text.push_str(digits);
    } else if point >= count {
        text.push_str(digits);
        zeros(text, point - count);
    } else {
        let (whole, fraction) = split_digits(digits, point);
        text.push_str(whole);
        text.push('.');
        text.push_str(fraction);
    }
}

fn split_digits(digits: &str, at: i32) -> (&str, &str) {
    usize::try_from(at)
        .ok()
        .and_then(|at| digits.split_at_checked(at))
        .unwrap_or((digits, ""))
}

/// The fields of an object literal.
pub fn fields(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value {
        fields
    } else {
        Map::new()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    use serde_json::json;

    use super::*;

    fn of(text: &str) -> String {
        canonical(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn numbers_are_written_as_javascript_writes_them() {
        for (given, written) in [
            ("1.0", "1"),
            ("-0.0", "0"),
            ("-0", "0"),
            ("-1.50", "-1.5"),
            ("1e21", "1e+21"),
            ("1e20", "100000000000000000000"),
            ("123456789012345680000", "123456789012345680000"),
            ("1e-7", "1e-7"),
            ("0.000001", "0.000001"),
            ("0.0000012", "0.0000012"),
            ("1.25e-9", "1.25e-9"),
            ("9007199254740993", "9007199254740992"),
            ("18446744073709551615", "18446744073709552000"),
            ("-9223372036854775808", "-9223372036854776000"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("0.1", "0.1"),
            ("333333333.33333329", "333333333.3333333"),
        ] {
            assert_eq!(of(given), written, "{given}");
        }
    }

    #[test]
    fn array_indexes_come_first_and_ascending() {
        let given =
            r#"{"b":1,"10":2,"2":3,"a":4,"01":5,"0":6,"-1":7,"4294967294":8,"4294967295":9,"":10}"#;
        let text = of(given);
        assert!(
            text.starts_with(r#"{"0":6,"2":3,"10":2,"4294967294":8,"#),
            "{text}"
        );
        assert_eq!(
            of(r#"{"__proto__":{"2":1,"1":2}}"#),
            r#"{"__proto__":{"1":2,"2":1}}"#
        );
    }

    #[test]
    fn only_what_must_be_escaped_is_escaped() {
        let value = json!("\u{8}\t\n\u{c}\r\"\\/\u{0}\u{1f}\u{7f}\u{2028}é😀");
        assert_eq!(
            canonical(&value),
            "\"\\b\\t\\n\\f\\r\\\"\\\\/\\u0000\\u001f\u{7f}\u{2028}é😀\""
        );
    }

    fn keys() -> impl Strategy<Value = String> {
        prop_oneof![
            (0_u64..30).prop_map(|index| index.to_string()),
            (4_294_967_290_u64..4_294_967_300).prop_map(|index| index.to_string()),
            any::<u32>().prop_map(|index| index.to_string()),
            "[0-9]{1,12}",
            any::<String>(),
            Just(String::from("__proto__")),
        ]
    }

    fn numbers() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (-400_i32..400, 1_u64..1_000_000_000).prop_map(|(exponent, mantissa)| {
                format!("{mantissa}e{exponent}")
                    .parse::<f64>()
                    .map_or(Value::Null, Value::from)
            }),
            (-100_000_i32..100_000).prop_map(|n| Value::from(f64::from(n) / 100.0)),
        ]
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            numbers(),
            any::<String>().prop_map(Value::from),
            "[\\x00-\\x7f]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec((keys(), inner), 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_text_is_a_fixed_point_of_itself(value in documents()) {
            let text = canonical(&value);
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(canonical(&read), text);
        }

        #[test]
        fn a_double_keeps_its_value(double in any::<f64>().prop_filter("finite", |d| d.is_finite())) {
            let text = canonical(&Value::from(double));
            // Adding zero makes a plus zero of a minus zero.
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), (double + 0.0).to_bits());
        }
    }

    /// Node is not needed to build; where it is missing this test says so and passes.
    #[test]
    fn node_agrees() {
        const DOCUMENTS: usize = 1_500;
        const SCRIPT: &str = "
            const lines = require('fs').readFileSync(0, 'utf8').split('\\n').filter(l => l);
            const wrong = lines.filter(l => JSON.stringify(JSON.parse(l)) !== l);
            console.log(lines.length + ' ' + wrong.length + ' ' + (wrong[0] ?? ''));";
        let node = Command::new("node")
            .args(["-e", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut node) = node else {
            let is_required = std::env::var_os("ROLLCALL_TEST_REQUIRE_ALL").is_some();
            assert!(!is_required, "Node.js is required and was not found");
            eprintln!(
                "skipped: install Node.js (`node` on the PATH) to compare with JSON.stringify"
            );
            return;
        };
        let mut runner = TestRunner::deterministic();
        let mut input = String::new();
        for _ in 0..DOCUMENTS {
            input.push_str(&canonical(
                &documents().new_tree(&mut runner).unwrap().current(),
            ));
            input.push('\n');
        }
        node.stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = node.wait_with_output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(answer.starts_with(&format!("{DOCUMENTS} 0 ")), "{answer}");
    }
}
