//! Small steps in TOML documents that leave the rest of the text as it is.

use toml_edit::{DocumentMut, Item, Key, Table, TableLike, TomlError, Value};

use super::TextError;

/// Reads a document.
///
/// # Errors
/// The line and what is wrong there.
pub fn parse(text: &str) -> Result<DocumentMut, TextError> {
    text.parse::<DocumentMut>().map_err(|error: TomlError| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        TextError::Syntax { line, reason: error.message().to_owned() }
    })
}

/// The document's text; the original's own where that says the same: the parser prints every header
/// of a table with the quotes of the first.
fn text_like(document: &DocumentMut, original: Option<&str>) -> String {
    let text = document.to_string();
    match original {
        Some(original) if parse(original).is_ok_and(|same| same.to_string() == text) => {
            original.to_owned()
        }
        _ => text,
    }
}

/// The item at a path of keys.
pub fn get<'d>(document: &'d DocumentMut, path: &[&str]) -> Option<&'d Item> {
    path.iter().try_fold(document.as_item(), |item, key| item.as_table_like()?.get(key))
}

/// The text of the string at a path.
pub fn text<'d>(document: &'d DocumentMut, path: &[&str]) -> Option<&'d str> {
    get(document, path)?.as_str()
}

/// The table at a path, to be changed; tables on the way are made, without a header of their own.
///
/// # Errors
/// Something on the way is not a table.
pub fn table<'d>(
    document: &'d mut DocumentMut,
    path: &[&str],
) -> Result<&'d mut dyn TableLike, TextError> {
    let mut item = document.as_item_mut();
    for (depth, key) in path.iter().enumerate() {
        let not_a_table = || TextError::Type { key: path[..=depth].join("."), expected: "a table" };
        let inline = item.is_inline_table();
        let parent = item.as_table_like_mut().ok_or_else(not_a_table)?;
        if !parent.contains_key(key) {
            let mut table = Table::new();
            table.set_implicit(true);
            let made = Item::Table(table);
            parent.insert(key, if inline { inline_of(made) } else { made });
        }
        item = parent.get_mut(key).ok_or_else(not_a_table)?;
        if !item.is_table_like() {
            return Err(not_a_table());
        }
    }
    let key = path.join(".");
    item.as_table_like_mut().ok_or(TextError::Type { key, expected: "a table" })
}

/// Inserts or replaces an item; in an inline table everything is inline.
///
/// # Errors
/// Something on the way is not a table.
pub fn put(document: &mut DocumentMut, path: &[&str], item: Item) -> Result<(), TextError> {
    let Some((key, way)) = path.split_last() else { return Ok(()) };
    let inline = !way.is_empty() && get(document, way).is_some_and(Item::is_inline_table);
    let parent = table(document, way)?;
    set(parent, key, if inline { inline_of(item) } else { item });
    Ok(())
}

/// As [`put`], in one table: the comment behind a value stays, a new key is as far to the right as
/// those beside it.
pub fn set(table: &mut dyn TableLike, key: &str, item: Item) {
    match (table.get_mut(key), item) {
        (Some(Item::Value(old)), Item::Value(mut new)) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        (Some(old), item) => *old = item,
        (None, item) => {
            let indent = (item.is_value() && !table.is_empty()).then(|| indent(table)).flatten();
            table.insert(key, item);
            if let (Some(indent), Some(mut key)) = (indent, table.key_mut(key)) {
                key.leaf_decor_mut().set_prefix(indent);
            }
        }
    }
}

/// How far to the right the values of a table stand.
fn indent(table: &dyn TableLike) -> Option<String> {
    let value = table.iter().find(|(_, item)| item.is_value()).map(|(key, _)| key)?;
    Some(last_line(table.key(value)?.leaf_decor().prefix()?.as_str()?).to_owned())
}

fn inline_of(item: Item) -> Item {
    item.into_value().map_or_else(|item| item, Item::Value)
}

/// Gives the item at a path what it has in another document, or takes it out where that has none.
/// Tables that become empty by that and are not in the other document go as well.
pub fn restore(document: &mut DocumentMut, path: &[&str], original: Option<&DocumentMut>) {
    let before = |path: &[&str]| original.and_then(|original| get(original, path));
    match before(path) {
        // Its tables are already there, or there would be nothing to restore.
        Some(item) => {
            let mut item = item.clone();
            if let Item::Table(table) = &mut item
                && let Some(Item::Table(now)) = get(document, path)
            {
                table.set_position(now.position());
            }
            if let Some((key, way)) = path.split_last()
                && let Ok(parent) = table(document, way)
                && let Some(place) = parent.get_mut(key)
            {
                *place = item;
            }
        }
        None => {
            let mut path = path;
            while let Some((key, way)) = path.split_last() {
                let Some(parent) = get_mut(document, way) else { return };
                parent.remove(key);
                if !parent.is_empty() || before(way).is_some() || way.is_empty() {
                    // A header that the original did without goes as well.
                    if before(way).and_then(Item::as_table).is_some_and(Table::is_implicit)
                        && let Some(Item::Table(table)) = item_mut(document, way)
                    {
                        table.set_implicit(true);
                    }
                    return;
                }
                path = way;
            }
        }
    }
}

/// Gives these runtimes back what they have in another document, as [`restore`] does, and the key of
/// the default runtime where one of them is it.
pub fn restore_runtimes(
    document: &mut DocumentMut,
    names: &[String],
    runtimes: &[&str],
    default: &[&str],
    original: Option<&DocumentMut>,
) {
    let is_default = names.iter().any(|name| text(document, default) == Some(name));
    for name in names {
        restore(document, &[runtimes, &[name.as_str()]].concat(), original);
    }
    if is_default {
        restore(document, default, original);
    }
}

/// What is left of a file's text, as [`text_like`] has it. `None`: nothing of a file that was not
/// there before.
pub fn left(document: &DocumentMut, original: Option<&str>) -> Option<String> {
    let left = text_like(document, original);
    (original.is_some() || !left.trim().is_empty()).then_some(left)
}

fn get_mut<'d>(document: &'d mut DocumentMut, path: &[&str]) -> Option<&'d mut dyn TableLike> {
    item_mut(document, path)?.as_table_like_mut()
}

fn item_mut<'d>(document: &'d mut DocumentMut, path: &[&str]) -> Option<&'d mut Item> {
    let mut item = document.as_item_mut();
    for key in path {
        item = item.as_table_like_mut()?.get_mut(key)?;
    }
    Some(item)
}

/// A table like an existing one, without the comments in it: same keys and values, same
/// indentation.
pub fn copy(of: &dyn TableLike) -> Table {
    let mut table = Table::new();
    let indent = indent(of).unwrap_or_default();
    for (key, item) in of.iter() {
        match item {
            Item::Value(Value::InlineTable(inner)) => {
                table.insert(key, Item::Table(copy(inner)));
            }
            Item::Value(value) => {
                let mut name = Key::new(key);
                name.leaf_decor_mut().set_prefix(&indent);
                let value = Item::Value(value.clone().decorated(" ", ""));
                table.insert_formatted(&name, value);
            }
            Item::Table(inner) => {
                let mut copied = copy(inner);
                indent_header(&mut copied, inner);
                table.insert(key, Item::Table(copied));
            }
            _ => {}
        }
    }
    table
}

/// Puts a table's header as far to the right as another's; one at the very left has an empty line
/// before it.
pub fn indent_header(table: &mut Table, like: &Table) {
    let prefix = like.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
    match last_line(prefix) {
        "" => table.decor_mut().clear(),
        indent => table.decor_mut().set_prefix(indent),
    }
}

/// The white space after the last line end.
pub fn last_line(prefix: &str) -> &str {
    let line = prefix.rsplit('\n').next().unwrap_or_default();
    if line.trim().is_empty() { line } else { "" }
}
