//! Edits of JSON text that leave everything else of it as it is: order, indentation, line ends.

use std::ops::Range;

use serde_json::Value;

use super::TextError;

/// A member of an object, as ranges of the text.
#[derive(Debug, Clone)]
struct Member {
    key: String,
    /// The key with its quotes.
    name: Range<usize>,
    value: Range<usize>,
}

/// An object, as positions in the text.
#[derive(Debug)]
struct Object {
    /// Just after `{`.
    begin: usize,
    /// At `}`.
    end: usize,
    members: Vec<Member>,
}

/// Reads the text, which must be one object. Empty text is one without members.
///
/// # Errors
/// The line and what is wrong there.
pub fn parse(text: &str) -> Result<Value, TextError> {
    if text.trim().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| TextError::Syntax {
        line: error.line().max(1),
        reason: error.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
    })?;
    match value.is_object() {
        true => Ok(value),
        false => Err(TextError::Syntax { line: 1, reason: "not a JSON object".to_owned() }),
    }
}

/// Gives the member at `path` this value, making objects on the way.
///
/// # Errors
/// The text is not JSON, or something on the way is not an object.
pub fn set(text: &str, path: &[&str], value: &Value) -> Result<String, TextError> {
    parse(text)?;
    let text = if text.trim().is_empty() { "{}\n" } else { text };
    let unit = indentation(text);
    let mut object = root(text);
    for (depth, key) in path.iter().enumerate() {
        let indent = unit.repeat(depth + 1);
        let last = depth + 1 == path.len();
        let Some(member) = find(&object, key) else {
            let nested = path[depth + 1..].iter().rev().fold(value.clone(), |inner, key| {
                Value::Object(std::iter::once(((*key).to_owned(), inner)).collect())
            });
            return Ok(insert(text, &object, key, &nested, &unit, &indent));
        };
        if last {
            let rendered = render(value, &unit, &indent);
            return Ok(splice(text, member.value.clone(), &rendered));
        }
        if text.as_bytes().get(member.value.start) != Some(&b'{') {
            let key = path[..=depth].join(".");
            return Err(TextError::Type { key, expected: "an object" });
        }
        object = scan(text, member.value.start);
    }
    Ok(text.to_owned())
}

/// Gives the member at `path` the text that it has in `from`, where both have it.
///
/// # Errors
/// A text is not JSON.
pub fn copy(text: &str, path: &[&str], from: &str) -> Result<String, TextError> {
    parse(text)?;
    parse(from)?;
    let (Some(to), Some(value)) = (value_at(text, path), value_at(from, path)) else {
        return Ok(text.to_owned());
    };
    Ok(splice(text, to, &from[value]))
}

fn value_at(text: &str, path: &[&str]) -> Option<Range<usize>> {
    let (last, way) = path.split_last()?;
    let mut object = (!text.trim().is_empty()).then(|| root(text))?;
    for key in way {
        let at = find(&object, key)?.value.start;
        (text.as_bytes().get(at) == Some(&b'{')).then_some(())?;
        object = scan(text, at);
    }
    find(&object, last).map(|member| member.value.clone())
}

/// Takes the member at `path` out, if it is there.
///
/// # Errors
/// The text is not JSON.
pub fn remove(text: &str, path: &[&str]) -> Result<String, TextError> {
    parse(text)?;
    if text.trim().is_empty() {
        return Ok(text.to_owned());
    }
    let mut object = root(text);
    for (depth, key) in path.iter().enumerate() {
        let Some(at) = object.members.iter().rposition(|member| member.key == *key) else { break };
        let member = &object.members[at];
        if depth + 1 < path.len() {
            if text.as_bytes().get(member.value.start) != Some(&b'{') {
                break;
            }
            object = scan(text, member.value.start);
            continue;
        }
        let range = match (at.checked_sub(1), object.members.get(at + 1)) {
            (Some(before), _) => object.members[before].value.end..member.value.end,
            (None, Some(next)) => member.name.start..next.name.start,
            (None, None) => object.begin..object.end,
        };
        return Ok(splice(text, range, ""));
    }
    Ok(text.to_owned())
}

fn splice(text: &str, range: Range<usize>, with: &str) -> String {
    let mut out = text.to_owned();
    out.replace_range(range, with);
    out
}

fn insert(
    text: &str,
    object: &Object,
    key: &str,
    value: &Value,
    unit: &str,
    indent: &str,
) -> String {
    let outer = &indent[unit.len().min(indent.len())..];
    let inside = &text[object.begin..object.end];
    let name = Value::from(key);
    match object.members.last() {
        // All on one line stays on one line.
        Some(last) if !inside.contains('\n') => {
            splice(text, last.value.end..last.value.end, &format!(", {name}: {value}"))
        }
        Some(last) => {
            let value = render(value, unit, indent);
            splice(text, last.value.end..last.value.end, &format!(",\n{indent}{name}: {value}"))
        }
        None => {
            let value = render(value, unit, indent);
            let member = format!("\n{indent}{name}: {value}\n{outer}");
            splice(text, object.begin..object.end, &member)
        }
    }
}

/// Pretty-printed with this indentation; the first line has none.
fn render(value: &Value, unit: &str, indent: &str) -> String {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let inner = format!("{indent}{unit}");
            let members: Vec<String> = members
                .iter()
                .map(|(key, value)| {
                    format!("{inner}{}: {}", Value::from(&**key), render(value, unit, &inner))
                })
                .collect();
            format!("{{\n{}\n{indent}}}", members.join(",\n"))
        }
        other => other.to_string(),
    }
}

/// One level of indentation: what stands before the first member, else two spaces.
fn indentation(text: &str) -> String {
    let object = root(text);
    let first = object.members.first().map_or(object.begin, |member| member.name.start);
    let before = &text[object.begin..first];
    match before.rsplit_once('\n') {
        Some((_, spaces)) if !spaces.is_empty() => spaces.to_owned(),
        _ => "  ".to_owned(),
    }
}

fn find<'o>(object: &'o Object, key: &str) -> Option<&'o Member> {
    // Of several the last counts, as for Go's decoder.
    object.members.iter().rfind(|member| member.key == key)
}

fn root(text: &str) -> Object {
    scan(text, skip_space(text.as_bytes(), 0))
}

/// The object that begins at `at`, in text that is known to be JSON.
fn scan(text: &str, at: usize) -> Object {
    let bytes = text.as_bytes();
    let mut object = Object { begin: at + 1, end: at + 1, members: Vec::new() };
    let mut at = skip_space(bytes, at + 1);
    while bytes.get(at) == Some(&b'"') {
        let name = at..skip_value(bytes, at);
        let key = serde_json::from_str(&text[name.clone()]).unwrap_or_default();
        let colon = skip_space(bytes, name.end);
        let begin = skip_space(bytes, colon + 1);
        let value = begin..skip_value(bytes, begin);
        at = skip_space(bytes, value.end);
        object.members.push(Member { key, name, value });
        if bytes.get(at) == Some(&b',') {
            at = skip_space(bytes, at + 1);
        }
    }
    object.end = at.min(bytes.len());
    object
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// Just behind the value that begins at `at`.
fn skip_value(bytes: &[u8], mut at: usize) -> usize {
    let (mut depth, mut quoted) = (0usize, false);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => {
                quoted = !quoted;
                if !quoted && depth == 0 {
                    return at;
                }
            }
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at - 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at - 1,
            _ => {}
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "{\n    \"log-opts\": {\"max-size\": \"10m\", \"x\": \"}\\\"\"},\n    \
                        \"hosts\": [\"a\",\n  \"b\"],\n    \"debug\" : true\n}\n";

    #[test]
    fn a_member_is_added_in_the_texts_own_indentation_and_taken_out_again() {
        let added = set(TEXT, &["runtimes", "gpurun"], &json!({"path": "/g"})).unwrap();
        let expected = format!(
            "{},\n    \"runtimes\": {{\n        \"gpurun\": {{\n            \"path\": \"/g\"\n        }}\n    }}\n}}\n",
            TEXT.strip_suffix("\n}\n").unwrap()
        );
        assert_eq!(added, expected);
        assert_eq!(remove(&added, &["runtimes"]).unwrap(), TEXT);
        assert_eq!(parse(&added).unwrap()["log-opts"]["x"], "}\"");
    }

    #[test]
    fn every_place_of_a_member_is_left_clean() {
        for (text, path, expected) in [
            ("{\"a\": 1, \"b\": 2}", &["a"][..], "{\"b\": 2}"),
            ("{\"a\": 1, \"b\": 2}", &["b"], "{\"a\": 1}"),
            ("{\"a\":1}", &["a"], "{}"),
            ("{\n  \"a\": {\n    \"b\": 1\n  }\n}", &["a", "b"], "{\n  \"a\": {}\n}"),
            ("{\"a\": 1}", &["b"], "{\"a\": 1}"),
            ("{\"a\": 1}", &["a", "b"], "{\"a\": 1}"),
            ("", &["a"], ""),
        ] {
            assert_eq!(remove(text, path).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn every_shape_of_object_takes_a_member() {
        for (text, path, expected) in [
            ("", &["a"][..], "{\n  \"a\": 1\n}\n"),
            ("{}", &["a"], "{\n  \"a\": 1\n}"),
            ("{\n}\n", &["a"], "{\n  \"a\": 1\n}\n"),
            ("{\"b\":2}", &["a"], "{\"b\":2, \"a\": 1}"),
            ("{\"a\": [2] }", &["a"], "{\"a\": 1 }"),
            ("{\"a\":2,\"a\":3}", &["a"], "{\"a\":2,\"a\":1}"),
            ("{\n\t\"b\": {}\n}\n", &["b", "a"], "{\n\t\"b\": {\n\t\t\"a\": 1\n\t}\n}\n"),
            ("{\"\\u0061\": null}", &["a"], "{\"\\u0061\": 1}"),
        ] {
            assert_eq!(set(text, path, &json!(1)).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_line() {
        let error = set("{\n  \"a\": 1\n  \"b\": 2\n}", &["c"], &json!(1)).unwrap_err();
        assert_eq!(error.to_string(), "line 3: expected `,` or `}`");
        assert_eq!(parse("[]").unwrap_err().to_string(), "line 1: not a JSON object");
        let error = set("{\"a\": 1}", &["a", "b"], &json!(1)).unwrap_err();
        assert_eq!(error.to_string(), "a is not an object");
    }
}
