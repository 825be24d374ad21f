//! Properties from annotations: `org.systemd.property.NAME` with a value in GVariant's text form,
//! the subset that engines use: truth values, numbers, texts, and arrays of them. Pure.

use std::collections::{BTreeMap, HashMap};

use super::Property;
use super::dbus::Value;
use crate::cgroup::CgroupError;

/// What such an annotation starts with.
const PREFIX: &str = "org.systemd.property.";

/// The properties that reach no further than the scope itself: what podman and CRI-O write, and
/// limits that systemd does not have a default for. Of the others some start, stop or kill whatever
/// runs on the machine (`Wants`, `Conflicts`, `PIDs`).
const OWN: [&str; 13] = [
    "After",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "CollectMode",
    "DefaultDependencies",
    "Delegate",
    "Description",
    "KillSignal",
    "MemoryHigh",
    "MemoryMax",
    "MemorySwapMax",
    "RuntimeMaxUSec",
    "TimeoutStopUSec",
];

/// What annotations ask for.
#[derive(Debug, Default, PartialEq)]
pub struct Asked {
    /// The properties, by name.
    pub properties: Vec<Property>,
    /// The annotations that do not count.
    pub ignored: Vec<String>,
}

/// The properties that the annotations ask for. As in runc, one that ends in `Sec` is given in
/// seconds and set as the one in `USec`.
///
/// `anyones`: an image or the author of a pod may have written them. Then only those count that
/// reach no further than the scope.
///
/// # Errors
/// [`CgroupError::Annotation`]: a name or a value that is none.
pub fn properties(
    annotations: &HashMap<String, String>,
    anyones: bool,
) -> Result<Asked, CgroupError> {
    let mut asked = Asked::default();
    // Sorted, so that the same spec always gives the same first error.
    for (key, text) in annotations.iter().collect::<BTreeMap<_, _>>() {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let refuse = |reason| CgroupError::Annotation { key: key.clone(), reason };
        if name.is_empty() || !name.bytes().all(|letter| letter.is_ascii_alphabetic()) {
            return Err(refuse("a property's name consists of letters".to_owned()));
        }
        let in_seconds = name
            .strip_suffix("Sec")
            .filter(|stem| stem.ends_with(|letter: char| letter.is_ascii_lowercase()));
        let name = in_seconds.map_or_else(|| name.to_owned(), |stem| format!("{stem}USec"));
        if anyones && !OWN.contains(&name.as_str()) {
            asked.ignored.push(key.clone());
            continue;
        }
        let mut value = parse(text).map_err(|reason| refuse(format!("{text:?} {reason}")))?;
        if in_seconds.is_some() {
            value = microseconds(&value)
                .ok_or_else(|| refuse(format!("{text:?} is not a number of seconds from 0 on")))?;
        }
        asked.properties.push(Property { name, value });
    }
    Ok(asked)
}

fn microseconds(seconds: &Value) -> Option<Value> {
    let whole: i128 = match *seconds {
        Value::Byte(number) => number.into(),
        Value::I16(number) => number.into(),
        Value::U16(number) => number.into(),
        Value::I32(number) => number.into(),
        Value::U32(number) => number.into(),
        Value::I64(number) => number.into(),
        Value::U64(number) => number.into(),
        Value::Double(number) => {
            let micro = number * 1e6;
            // Far below 2^64, so that the conversion cannot overflow.
            return (0.0..=9e18).contains(&micro).then_some(Value::U64(micro as u64));
        }
        _ => return None,
    };
    whole.checked_mul(1_000_000).and_then(|micro| u64::try_from(micro).ok()).map(Value::U64)
}

/// Parses a whole text.
fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { rest: text.trim() };
    let value = parser.value(None, true)?;
    match parser.skip_space() {
        "" => Ok(value),
        rest => Err(format!("has {rest:?} after the value")),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_space(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn eat(&mut self, token: char) -> bool {
        let rest = self.skip_space().strip_prefix(token);
        if let Some(rest) = rest {
            self.rest = rest;
        }
        rest.is_some()
    }

    /// Letters, digits and what numbers have.
    fn word(&mut self) -> &'a str {
        let text = self.skip_space();
        let end = text
            .find(|letter: char| !(letter.is_ascii_alphanumeric() || "+-.".contains(letter)))
            .unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        word
    }

    /// A value of the D-Bus type `wanted`; `None`: of the type that it looks like.
    fn value(&mut self, wanted: Option<&str>, arrays: bool) -> Result<Value, String> {
        match self.skip_space().chars().next() {
            None => Err("is empty; texts need quotes: \"'text'\"".to_owned()),
            Some('@') if wanted.is_none() => {
                self.eat('@');
                let text = self.rest;
                let (signature, rest) =
                    text.split_once(' ').ok_or("has a type and no value after it")?;
                self.rest = rest;
                self.value(Some(signature), arrays)
            }
            Some('[') if arrays => self.array(wanted),
            Some('b') if self.rest.starts_with("b'") || self.rest.starts_with("b\"") => {
                Err("has a byte string, which is not supported; write it as @ay [1, 2]".to_owned())
            }
            Some(quote @ ('\'' | '"')) => {
                self.eat(quote);
                let text = self.quoted(quote)?;
                match wanted {
                    None | Some("s") => Ok(Value::Text(text)),
                    Some("o") => Ok(Value::Path(text)),
                    Some("g") => Ok(Value::Signature(text)),
                    Some(other) => Err(format!("has a text where type {other:?} is")),
                }
            }
            Some(letter @ ('<' | '{' | '(' | '[')) => {
                Err(format!("has {letter:?}, which is not supported here"))
            }
            Some(_) => self.plain(wanted, arrays),
        }
    }

    /// A truth value, a number, or a type's name and what comes after it.
    fn plain(&mut self, wanted: Option<&str>, arrays: bool) -> Result<Value, String> {
        let word = self.word();
        let named = match word {
            "boolean" => "b",
            "byte" => "y",
            "int16" => "n",
            "uint16" => "q",
            "int32" => "i",
            "uint32" => "u",
            "int64" => "x",
            "uint64" => "t",
            "double" => "d",
            "string" => "s",
            "objectpath" => "o",
            "signature" => "g",
            _ => "",
        };
        if !named.is_empty() {
            return match wanted {
                None => self.value(Some(named), arrays),
                Some(_) => Err("names two types for one value".to_owned()),
            };
        }
        match (word, wanted) {
            ("true", None | Some("b")) => return Ok(Value::Bool(true)),
            ("false", None | Some("b")) => return Ok(Value::Bool(false)),
            _ => {}
        }
        if !word.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
            return Err("is no value; texts need quotes: \"'text'\"".to_owned());
        }
        let looks = if word.contains(['.', 'e']) && !word.starts_with("0x") { "d" } else { "i" };
        number(word, wanted.unwrap_or(looks))
            .ok_or_else(|| format!("has the number {word:?}, which does not fit its type"))
    }

    fn array(&mut self, wanted: Option<&str>) -> Result<Value, String> {
        let wanted = match wanted {
            None => None,
            Some(signature) => Some(
                signature
                    .strip_prefix('a')
                    .filter(|item| item.len() == 1 && "ybnqiuxtdsog".contains(*item))
                    .ok_or_else(|| format!("has an array where type {signature:?} is"))?,
            ),
        };
        self.eat('[');
        let mut items: Vec<Value> = Vec::new();
        while !self.eat(']') {
            if !items.is_empty() && !self.eat(',') {
                return Err("has an array with neither ',' nor ']' after an item".to_owned());
            }
            let same = items.first().map(Value::signature);
            let item = self.value(wanted.or(same.as_deref()), false)?;
            items.push(item);
        }
        match wanted.map(str::to_owned).or_else(|| items.first().map(Value::signature)) {
            Some(signature) => Ok(Value::Array(signature, items)),
            None => Err("has an empty array without a type; write it as @as []".to_owned()),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        let mut letters = self.rest.chars();
        loop {
            match letters.next() {
                None => return Err("has a quote that is not closed".to_owned()),
                Some('\0') => return Err("has a NUL in it".to_owned()),
                Some(letter) if letter == quote => break,
                Some('\\') => text.push(match letters.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some(other @ ('\\' | '\'' | '"')) => other,
                    _ => return Err("has an escape other than \\n \\t \\\\ \\' \\\"".to_owned()),
                }),
                Some(letter) => text.push(letter),
            }
        }
        self.rest = letters.as_str();
        Ok(text)
    }
}

fn number(word: &str, signature: &str) -> Option<Value> {
    if signature == "d" {
        return word.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Double);
    }
    let (digits, radix) = match word.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (word, 10),
    };
    let number = i128::from_str_radix(digits, radix).ok()?;
    match signature {
        "y" => number.try_into().ok().map(Value::Byte),
        "n" => number.try_into().ok().map(Value::I16),
        "q" => number.try_into().ok().map(Value::U16),
        "i" => number.try_into().ok().map(Value::I32),
        "u" => number.try_into().ok().map(Value::U32),
        "x" => number.try_into().ok().map(Value::I64),
        "t" => number.try_into().ok().map(Value::U64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, text: &str) -> Result<Property, String> {
        let annotations = HashMap::from([
            (format!("{PREFIX}{name}"), text.to_owned()),
            ("something.else".to_owned(), "[".to_owned()),
        ]);
        properties(&annotations, false)
            .map(|mut asked| asked.properties.remove(0))
            .map_err(|err| err.to_string())
    }

    #[test]
    fn of_anyone_only_what_the_scope_alone_notices_counts() {
        let annotations: HashMap<String, String> = [
            ("Conflicts", "['sshd.service']"),
            ("PIDs", "@au [1]"),
            ("Wants", "['reboot.target'"),
            ("CollectMode", "'inactive'"),
            ("TimeoutStopSec", "5"),
        ]
        .map(|(name, text)| (format!("{PREFIX}{name}"), text.to_owned()))
        .into();
        let asked = properties(&annotations, true).unwrap();
        let names: Vec<&str> = asked.properties.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["CollectMode", "TimeoutStopUSec"]);
        assert_eq!(asked.ignored, ["Conflicts", "PIDs", "Wants"].map(|it| format!("{PREFIX}{it}")));
    }

    #[test]
    fn values_have_the_type_that_they_look_like_or_that_is_named() {
        let texts = |all: &[&str]| {
            Value::Array("s".to_owned(), all.iter().map(|text| Value::text(*text)).collect())
        };
        for (text, expected) in [
            ("true", Value::Bool(true)),
            ("-7", Value::I32(-7)),
            ("uint64 123456789", Value::U64(123_456_789)),
            ("@t 18446744073709551615", Value::U64(u64::MAX)),
            ("0x10", Value::I32(16)),
            ("1.5", Value::Double(1.5)),
            ("'inactive-or-failed'", Value::text("inactive-or-failed")),
            ("\"it's\"", Value::text("it's")),
            ("'a\\'b'", Value::text("a'b")),
            ("['a', \"b\"]", texts(&["a", "b"])),
            ("@as []", texts(&[])),
            ("@au [1,2]", Value::Array("u".to_owned(), vec![Value::U32(1), Value::U32(2)])),
            ("byte 255", Value::Byte(255)),
        ] {
            assert_eq!(one("X", text).unwrap(), Property { name: "X".to_owned(), value: expected });
        }
    }

    #[test]
    fn seconds_are_set_as_microseconds() {
        let property = one("TimeoutStopSec", "1.5").unwrap();
        assert_eq!(property, Property::new("TimeoutStopUSec", Value::U64(1_500_000)));
        assert_eq!(one("TimeoutStopUSec", "uint64 5").unwrap().value, Value::U64(5));
        for bad in ["-1", "'x'", "uint64 18446744073709551615"] {
            assert!(one("TimeoutStopSec", bad).unwrap_err().contains("number of seconds"), "{bad}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused_with_the_annotation_s_name() {
        for bad in [
            "",
            "text",
            "'x",
            "[",
            "[]",
            "['a' 'b']",
            "['a', 1]",
            "256 1",
            "byte 256",
            "<1>",
            "{'a': 1}",
            "(1, 2)",
            "@",
            "@t",
            "@t 'x'",
            "@(ss) 1",
            "uint32 uint32 1",
            "[[1]]",
            "b'x'",
            "'\\q'",
            "99999999999",
            "nan",
            "@d nan",
            "'a\0b'",
            "@a\n [1]",
            "@a\n 'x'",
        ] {
            let error = one("X", bad).unwrap_err();
            assert!(error.contains("org.systemd.property.X"), "{bad:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        for name in ["", "a b", "X1", "X;Y"] {
            assert!(one(name, "1").unwrap_err().contains("consists of letters"), "{name:?}");
        }
    }
}
