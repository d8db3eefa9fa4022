//! The bytes of a frame that is built. Big binaries stay where they are until it is sent.

type Piece<'a> = Box<dyn AsRef<[u8]> + Send + 'a>;

/// Bytes that are appended, and big pieces between them, which stay where they are.
#[derive(Default)]
pub struct Body<'a> {
    pub(crate) bytes: Vec<u8>,
    /// The pieces, each with the index in `bytes` that it stands before.
    pieces: Vec<(usize, Piece<'a>)>,
}

impl<'a> Body<'a> {
    /// Appends a piece without a copy.
    pub fn share(&mut self, piece: impl AsRef<[u8]> + Send + 'a) {
        self.pieces.push((self.bytes.len(), Box::new(piece)));
    }

    /// Whether a piece was appended.
    pub(crate) fn has_pieces(&self) -> bool {
        !self.pieces.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        let pieces = self.pieces.iter();
        let shared: usize = pieces.map(|(_, piece)| (**piece).as_ref().len()).sum();
        self.bytes.len() + shared
    }

    /// Copies the pieces after an index into the bytes.
    pub(crate) fn flatten(&mut self, from: usize) {
        let first = self.pieces.partition_point(|(at, _)| *at < from);
        if first == self.pieces.len() {
            return;
        }
        // The bytes before the first piece stay: a list may have a thousand maps that are flattened.
        let begin = self.pieces.get(first).map_or(0, |(at, _)| *at);
        let tail = self.bytes.split_off(begin);
        let mut start = 0;
        for (at, piece) in self.pieces.drain(first..) {
            let between = tail.get(start..at - begin);
            self.bytes.extend_from_slice(between.unwrap_or_default());
            self.bytes.extend_from_slice((*piece).as_ref());
            start = at - begin;
        }
        let rest = tail.get(start..).unwrap_or_default();
        self.bytes.extend_from_slice(rest);
    }

    /// Returns the bytes after an index, and the pieces between them.
    pub(super) fn slices(&self, from: usize) -> Vec<&[u8]> {
        let mut slices = Vec::with_capacity(2 * self.pieces.len() + 1);
        let mut start = from;
        for (at, piece) in &self.pieces {
            slices.push(self.bytes.get(start..*at).unwrap_or_default());
            slices.push((**piece).as_ref());
            start = *at;
        }
        slices.push(self.bytes.get(start..).unwrap_or_default());
        slices
    }
}
