//! A term as a person reads it in an error: the beginning of it. What the BEAM prints would be the
//! whole, and takes a time quadratic in the size of an integer.

use super::{Fallible, Kind, Reader};

/// Characters, give or take the last item.
const LIMIT: usize = 200;

/// The text of the next term of `reader`, which is of no use afterwards.
pub(crate) fn describe(reader: &mut impl Reader) -> String {
    let mut text = String::new();
    // A malformed term ends the text where it is.
    let _: Fallible<()> = append(&mut text, reader);
    text
}

/// Nothing once the limit is reached; so the recursion is no deeper than that.
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

/// The tail of an improper list comes after a bar.
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

/// A comma before each element but the first.
struct Separator(&'static str);

impl Separator {
    fn new(text: &mut String, open: &str) -> Self {
        text.push_str(open);
        Self("")
    }

    /// `false` if there is to be no further element.
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
