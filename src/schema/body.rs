//! The strict reader of request bodies: bytes in, one JSON object out, or a refusal that says what
//! to change.
//!
//! It is stricter than `serde_json` in what could hurt later. SCIM names are compared without case
//! (RFC 7643 section 2.1), so an object with two keys that differ only by case means two things at
//! once and is refused. U+0000 is refused because not every database can store it. Depth, keys, items
//! and string lengths are bounded by [`Limits`], and the depth is counted here rather than left to
//! the stack.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::schema::error::ScimError;

/// How much one body may hold. The number of bytes is limited before the body gets here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Objects and arrays inside one another.
    pub depth: usize,
    /// Keys of one object.
    pub keys: usize,
    /// Items of an array under `members`, or under the `value` of a PATCH operation.
    pub members: usize,
    /// Items of any other array.
    pub items: usize,
    /// Items of `Operations`, in PATCH and in Bulk.
    pub operations: usize,
    /// Bytes of one string.
    pub string_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 32,
            keys: 1_000,
            members: 100_000,
            items: 1_000,
            operations: 1_000,
            string_bytes: 64 * 1024,
        }
    }
}

/// Reads a body that must be one JSON object.
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Map<String, Value>, ScimError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ScimError::invalid_syntax(
            "The body is empty. Send one JSON object.",
        ));
    }
    let reader = Reader {
        limits,
        refusal: RefCell::new(None),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let root = Node {
        reader: &reader,
        depth: 0,
        items_max: limits.items,
        items: Items::Other,
    };
    let outcome = root
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    match (reader.refusal.into_inner(), outcome) {
        (Some(refusal), _) => Err(refusal),
        (None, Err(fault)) => Err(ScimError::invalid_syntax(format!(
            "The body is not valid JSON: {fault}. Send one JSON object in UTF-8."
        ))),
        (None, Ok(Value::Object(map))) => Ok(map),
        (
            None,
            Ok(
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_),
            ),
        ) => Err(ScimError::invalid_syntax(
            "The body is JSON but not an object. Send one JSON object.",
        )),
    }
}

/// What all nodes of one body share: the limits, and the refusal that ended the reading.
struct Reader<'l> {
    limits: &'l Limits,
    refusal: RefCell<Option<ScimError>>,
}

impl Reader<'_> {
    /// Remembers the refusal and ends the reading; serde's own errors could only carry a text.
    fn refuse<T, E: de::Error>(&self, error: ScimError) -> Result<T, E> {
        self.refusal.borrow_mut().get_or_insert(error);
        Err(E::custom("refused"))
    }

    fn check_text<E: de::Error>(&self, text: &str) -> Result<(), E> {
        let bytes_max = self.limits.string_bytes;
        if text.len() > bytes_max {
            return self.refuse(ScimError::invalid_value(format!(
                "A string is longer than {bytes_max} bytes. Shorten it."
            )));
        }
        if text.contains('\0') {
            return self.refuse(ScimError::invalid_value(
                "A string contains the character U+0000, which cannot be stored. Remove it.",
            ));
        }
        Ok(())
    }
}

/// Which limit an array falls under.
#[derive(Clone, Copy)]
enum Items {
    Operations,
    Other,
}

/// One value about to be read.
#[derive(Clone, Copy)]
struct Node<'r> {
    reader: &'r Reader<'r>,
    depth: usize,
    items_max: usize,
    items: Items,
}

impl Node<'_> {
    fn below(self) -> Self {
        Self {
            depth: self.depth + 1,
            ..self
        }
    }

    /// The value under a key; the nearest key decides how long an array may be.
    fn under(self, key: &str) -> Self {
        let limits = self.reader.limits;
        let (items, items_max) = if key.eq_ignore_ascii_case("Operations") {
            (Items::Operations, limits.operations)
        } else if is_members(key) || key.eq_ignore_ascii_case("value") {
            (Items::Other, limits.members)
        } else {
            (Items::Other, limits.items)
        };
        Node {
            items_max,
            items,
            ..self.below()
        }
    }

    fn check_depth<E: de::Error>(&self) -> Result<(), E> {
        let depth_max = self.reader.limits.depth;
        if self.depth >= depth_max {
            return self.reader.refuse(ScimError::invalid_syntax(format!(
                "The body nests objects and arrays more than {depth_max} deep. Flatten it."
            )));
        }
        Ok(())
    }

    fn check_items<E: de::Error>(&self, count: usize) -> Result<(), E> {
        if count <= self.items_max {
            return Ok(());
        }
        let items_max = self.items_max;
        self.reader.refuse(match self.items {
            Items::Operations => ScimError::too_many_operations(format!(
                "The request has more than {items_max} operations. Send them in several requests."
            )),
            Items::Other => ScimError::too_many(format!(
                "An array has more than {items_max} items. Send fewer."
            )),
        })
    }
}

/// `members`, plain or qualified by the URN of its schema.
fn is_members(key: &str) -> bool {
    let name = key.rsplit(':').next().unwrap_or(key);
    name.eq_ignore_ascii_case("members")
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.reader.check_text(text)?;
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        self.reader.check_text(&text)?;
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self.below())? {
            array.push(item);
            self.check_items(array.len())?;
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut map = Map::new();
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.reader.check_text(&key)?;
            if !seen.insert(key.to_ascii_lowercase()) {
                let shown: String = key.chars().take(100).collect();
                return self.reader.refuse(ScimError::invalid_syntax(format!(
                    "The name '{shown}' appears twice in one object (names are compared without \
                     case). Send it once."
                )));
            }
            let keys_max = self.reader.limits.keys;
            if seen.len() > keys_max {
                return self.reader.refuse(ScimError::invalid_syntax(format!(
                    "An object has more than {keys_max} names. Send fewer."
                )));
            }
            let value = entries.next_value_seed(self.under(&key))?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::{Limits, parse};
    use crate::schema::error::{ScimError, ScimType};

    fn read(text: &str) -> Result<Map<String, Value>, ScimError> {
        parse(text.as_bytes(), &Limits::default())
    }

    fn refused(text: &str) -> Option<ScimType> {
        read(text).unwrap_err().scim_type
    }

    fn array_under(key: &str, count: usize) -> String {
        format!(r#"{{"{key}":[{}]}}"#, vec!["1"; count].join(","))
    }

    #[test]
    fn an_object_is_read_as_serde_json_reads_it() {
        let text = r#"{"a":[1,-2,3.5,true,null,"\u00e9\ud83d\ude00"],"b":{"c":{}}}"#;
        assert_eq!(
            Value::Object(read(text).unwrap()),
            serde_json::from_str::<Value>(text).unwrap()
        );
        let with_bom = [b"\xEF\xBB\xBF".as_slice(), text.as_bytes()].concat();
        assert!(parse(&with_bom, &Limits::default()).is_ok());
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for text in [
            "",
            " \r\n",
            "[]",
            "\"x\"",
            "1",
            "null",
            "{",
            "{}{}",
            "{} x",
            "{'a':1}",
            "{\"a\":1e999}",
        ] {
            assert_eq!(refused(text), Some(ScimType::InvalidSyntax), "{text}");
        }
        assert!(parse(b"\xEF\xBB\xBF", &Limits::default()).is_err());
    }

    #[test]
    fn equal_names_are_refused_also_when_case_differs() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"userName":"x","USERNAME":"y"}"#,
            r#"{"n":{"b":1,"\u0042":2}}"#,
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.scim_type, Some(ScimType::InvalidSyntax), "{text}");
            assert!(error.detail.contains("twice"), "{}", error.detail);
        }
    }

    #[test]
    fn broken_text_is_refused() {
        assert!(parse(b"{\"a\":\"\xff\"}", &Limits::default()).is_err());
        assert!(parse(b"{\"\xff\":1}", &Limits::default()).is_err());
        assert!(read(r#"{"a":"\ud800"}"#).is_err());
        assert!(read(r#"{"a":"\udc00x"}"#).is_err());
        assert!(read(r#"{"\ud800":1}"#).is_err());
        assert_eq!(refused(r#"{"a":"x\u0000"}"#), Some(ScimType::InvalidValue));
        assert_eq!(refused(r#"{"a\u0000":1}"#), Some(ScimType::InvalidValue));
    }

    #[test]
    fn depth_is_limited_and_a_hundred_thousand_brackets_are_a_plain_error() {
        let nested =
            |depth: usize| format!("{}{}", r#"{"a":"#.repeat(depth) + "1", "}".repeat(depth));
        assert!(read(&nested(32)).is_ok());
        assert_eq!(refused(&nested(33)), Some(ScimType::InvalidSyntax));
        assert_eq!(refused(&nested(100_000)), Some(ScimType::InvalidSyntax));
        assert!(read(&format!(r#"{{"a":{}"#, "[".repeat(100_000))).is_err());
    }

    #[test]
    fn items_are_limited_by_the_nearest_key() {
        assert!(read(&array_under("emails", 1_000)).is_ok());
        assert_eq!(
            refused(&array_under("emails", 1_001)),
            Some(ScimType::TooMany)
        );
        for key in [
            "members",
            "Members",
            "value",
            "urn:ietf:params:scim:schemas:core:2.0:Group:members",
        ] {
            assert!(read(&array_under(key, 100_000)).is_ok(), "{key}");
            assert_eq!(
                refused(&array_under(key, 100_001)),
                Some(ScimType::TooMany),
                "{key}"
            );
        }
        assert!(read(&array_under("Operations", 1_000)).is_ok());
        let error = read(&array_under("Operations", 1_001)).unwrap_err();
        assert_eq!(
            (error.status, error.scim_type),
            (413, Some(ScimType::TooMany))
        );
    }

    #[test]
    fn names_and_strings_are_limited() {
        let object = |count: usize| {
            let entries: Vec<String> = (0..count).map(|n| format!("\"k{n}\":1")).collect();
            format!("{{{}}}", entries.join(","))
        };
        assert!(read(&object(1_000)).is_ok());
        assert_eq!(refused(&object(1_001)), Some(ScimType::InvalidSyntax));
        let text = |bytes: usize| json!({"a": "x".repeat(bytes)}).to_string();
        assert!(read(&text(65_536)).is_ok());
        assert_eq!(refused(&text(65_537)), Some(ScimType::InvalidValue));
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(parse(&bytes, &Limits::default()));
        }

        #[test]
        fn text_never_panics(text in r#"[{}\[\]":,a-b0-9\\u ]{0,60}"#) {
            drop(read(&text));
        }
    }
}
