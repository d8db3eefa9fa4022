//! The text of a term for an error message: its beginning only. The BEAM would print the whole term,
//! in a time quadratic in the size of an integer. Called by `read` after a failure, attached; runs no
//! code of a program.

use super::{Fallible, Kind, Reader};

/// The length of a text, in bytes, after which no further item is added.
const LIMIT: usize = 200;

/// Returns the text of the next term of `reader`, which must not be read after that.
pub(crate) fn describe(reader: &mut impl Reader) -> String {
    let mut text = String::new();
    // A malformed term ends the text where it is.
    let _: Fallible<()> = append(&mut text, reader);
    text
}

/// Appends the text of the next term, unless the limit is reached: each level of the recursion adds a
/// byte at least, so the limit bounds its depth.
fn append(text: &mut String, reader: &mut impl Reader) -> Fallible<()> {
    if text.len() >= LIMIT {
        return Ok(());
    }
    match reader.kind()? {
        Kind::Integer => match reader.small_integer() {
            Some(small) => text.push_str(&small.to_string()),
            None => text.push_str(&reader.short_text()?),
        },
        Kind::Bits => match reader.binary()? {
            Some(bytes) => binary(text, bytes),
            None => text.push_str(&reader.short_text()?),
        },
        Kind::List => list(text, reader)?,
        Kind::Tuple => tuple(text, reader)?,
        Kind::Map => map(text, reader)?,
        Kind::Atom | Kind::Float | Kind::Other => text.push_str(&reader.short_text()?),
    }
    Ok(())
}

fn binary(text: &mut String, bytes: &[u8]) {
    let start = String::from_utf8_lossy(bytes.get(..LIMIT).unwrap_or(bytes));
    let end = if bytes.len() > LIMIT { "…>>" } else { ">>" };
    text.push_str(&format!("<<{start:?}{end}"));
}

/// Appends a list; the tail of an improper list follows a bar.
fn list(text: &mut String, reader: &mut impl Reader) -> Fallible<()> {
    let mut items = reader.open_list()?;
    let mut separator = Separator::new(text, "[");
    while reader.next_item(&mut items) {
        if !separator.put(text) {
            text.push(']');
            return Ok(());
        }
        append(text, reader)?;
    }
    if text.len() < LIMIT && !reader.close_list(items)? {
        text.push('|');
        append(text, reader)?;
    }
    text.push(']');
    Ok(())
}

fn tuple(text: &mut String, reader: &mut impl Reader) -> Fallible<()> {
    let mut elements = reader.open_tuple()?;
    let mut separator = Separator::new(text, "{");
    for _ in 0..reader.arity(&elements) {
        if !separator.put(text) {
            break;
        }
        reader.next_element(&mut elements);
        append(text, reader)?;
    }
    text.push('}');
    Ok(())
}

fn map(text: &mut String, reader: &mut impl Reader) -> Fallible<()> {
    let mut entries = reader.open_map()?;
    let mut separator = Separator::new(text, "#{");
    while reader.next_key(&mut entries) {
        if !separator.put(text) {
            break;
        }
        append(text, reader)?;
        text.push_str(" => ");
        reader.next_entry_value(&mut entries);
        append(text, reader)?;
    }
    text.push('}');
    Ok(())
}

/// Appends a comma before each element but the first.
struct Separator(&'static str);

impl Separator {
    fn new(text: &mut String, open: &str) -> Self {
        text.push_str(open);
        Self("")
    }

    /// Appends the separator; `false` if the limit is reached, and no further element is to follow.
    fn put(&mut self, text: &mut String) -> bool {
        if text.len() >= LIMIT {
            text.push('…');
            return false;
        }
        text.push_str(self.0);
        self.0 = ",";
        true
    }
}
