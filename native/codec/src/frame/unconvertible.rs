//! An [`Unconvertible`] in a frame: `byte` cause, `bytes` text, and for each step of the path, innermost
//! first, `byte` 0 and `word` number, or `byte` 1 and `bytes` key.

use super::{Fields, FrameWriter};
use crate::error::{Step, Unconvertible, Why};
use crate::limits::MAX_DEPTH;

/// Most bytes of a text that are read.
const MAX_TEXT: usize = 1 << 16;

const CAUSES: [Why; 8] = [
    Why::ImproperList,
    Why::TooDeep,
    Why::Cycle,
    Why::KeyCollision,
    Why::UnhashableKey,
    Why::NotUnicode,
    Why::TooLarge,
    Why::ForeignObject,
];

impl FrameWriter<'_> {
    /// Adds an error, as the last fields.
    pub fn unconvertible(&mut self, error: &Unconvertible) {
        self.byte(error.why as u8).bytes(error.value.as_bytes());
        for step in &error.path {
            match step {
                Step::Number(number) => self.byte(0).word(number.cast_unsigned()),
                Step::Key(key) => self.byte(1).bytes(key.as_bytes()),
            };
        }
    }
}

impl Fields<'_> {
    /// Takes an error, the last fields; `None` if they are malformed.
    pub fn unconvertible(&mut self) -> Option<Unconvertible> {
        let number = self.byte()?;
        let why = CAUSES.into_iter().find(|why| *why as u8 == number)?;
        let value = text(self.bytes()?);
        let mut path = Vec::new();
        while self.end().is_none() {
            let step = match self.byte()? {
                0 => Step::Number(self.word()?.cast_signed()),
                1 => Step::Key(text(self.bytes()?)),
                _ => return None,
            };
            // No walk is deeper.
            (path.len() <= MAX_DEPTH).then(|| path.push(step))?;
        }
        Some(Unconvertible { why, value, path })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..MAX_TEXT).unwrap_or(bytes)).into_owned()
}
