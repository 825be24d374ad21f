//! What a message carries: typed values, and how they are written.

use super::DbusError;

/// The longest array (D-Bus specification, "Marshalling containers").
const MAX_ARRAY: usize = 1 << 26;

/// A value with its D-Bus type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    Double(f64),
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a…`: the type of the items, and the items, which are all of it.
    Array(String, Vec<Value>),
    /// `(…)`
    Struct(Vec<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// An array of bytes.
    #[must_use]
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::Array("y".to_owned(), bytes.iter().copied().map(Self::Byte).collect())
    }

    /// The D-Bus type.
    #[must_use]
    pub fn signature(&self) -> String {
        let basic = match self {
            Self::Byte(_) => "y",
            Self::Bool(_) => "b",
            Self::I16(_) => "n",
            Self::U16(_) => "q",
            Self::I32(_) => "i",
            Self::U32(_) => "u",
            Self::I64(_) => "x",
            Self::U64(_) => "t",
            Self::Double(_) => "d",
            Self::Text(_) => "s",
            Self::Path(_) => "o",
            Self::Signature(_) => "g",
            Self::Variant(_) => "v",
            Self::Array(item, _) => return format!("a{item}"),
            Self::Struct(fields) => {
                let fields: String = fields.iter().map(Self::signature).collect();
                return format!("({fields})");
            }
        };
        basic.to_owned()
    }
}

/// The alignment of a type, by the first letter of its signature.
pub(super) fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}

/// Little-endian bytes, aligned from their start.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    pub fn align(&mut self, to: usize) {
        let length = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(length, 0);
    }

    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn value(&mut self, value: &Value) -> Result<(), DbusError> {
        match value {
            Value::Array(item, items) => return self.array(item, items),
            Value::Struct(fields) => {
                self.align(8);
                return fields.iter().try_for_each(|field| self.value(field));
            }
            Value::Variant(inside) => {
                self.signature(&inside.signature())?;
                return self.value(inside);
            }
            Value::Text(text) | Value::Path(text) => return self.text(text),
            Value::Signature(text) => return self.signature(text),
            _ => self.align(alignment(&value.signature())),
        }
        match value {
            Value::Byte(number) => self.bytes.push(*number),
            Value::Bool(yes) => self.bytes.extend(u32::from(*yes).to_le_bytes()),
            Value::I16(number) => self.bytes.extend(number.to_le_bytes()),
            Value::U16(number) => self.bytes.extend(number.to_le_bytes()),
            Value::I32(number) => self.bytes.extend(number.to_le_bytes()),
            Value::U32(number) => self.bytes.extend(number.to_le_bytes()),
            Value::I64(number) => self.bytes.extend(number.to_le_bytes()),
            Value::U64(number) => self.bytes.extend(number.to_le_bytes()),
            Value::Double(number) => self.bytes.extend(number.to_le_bytes()),
            // Written above.
            Value::Text(_)
            | Value::Path(_)
            | Value::Signature(_)
            | Value::Array(..)
            | Value::Struct(_)
            | Value::Variant(_) => {}
        }
        Ok(())
    }

    /// The length counts from the first item, after its padding.
    fn array(&mut self, item: &str, items: &[Value]) -> Result<(), DbusError> {
        self.u32(0);
        let place = self.bytes.len() - 4;
        self.align(alignment(item));
        let start = self.bytes.len();
        items.iter().try_for_each(|item| self.value(item))?;
        let length = self.bytes.len() - start;
        let written = u32::try_from(length).ok().filter(|_| length <= MAX_ARRAY);
        let written = written.ok_or(DbusError::TooLarge(length))?;
        if let Some(room) = self.bytes.get_mut(place..place + 4) {
            room.copy_from_slice(&written.to_le_bytes());
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), DbusError> {
        let length = u32::try_from(text.len()).map_err(|_| DbusError::TooLarge(text.len()))?;
        if text.contains('\0') {
            return Err(DbusError::Nul(text.to_owned()));
        }
        self.u32(length);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        Ok(())
    }

    fn signature(&mut self, text: &str) -> Result<(), DbusError> {
        let length = u8::try_from(text.len()).map_err(|_| DbusError::TooLarge(text.len()))?;
        self.bytes.push(length);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_of_structs_is_aligned_and_counted_without_its_padding() {
        let entry = Value::Struct(vec![Value::text("/a"), Value::text("rw")]);
        let mut writer = Writer::default();
        writer.value(&Value::Array("(ss)".to_owned(), vec![entry])).unwrap();
        let mut expected = vec![15, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([2, 0, 0, 0, b'/', b'a', 0, 0, 2, 0, 0, 0, b'r', b'w', 0]);
        assert_eq!(writer.bytes, expected);
    }

    #[test]
    fn a_variant_carries_its_type() {
        let mut writer = Writer::default();
        writer.value(&Value::Variant(Box::new(Value::U64(1)))).unwrap();
        assert_eq!(writer.bytes, [1, b't', 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Value::bytes(&[3]).signature(), "ay");
    }

    #[test]
    fn a_nul_byte_is_refused() {
        assert!(Writer::default().value(&Value::text("a\0b")).is_err());
    }
}
