//! Follows the frames of one direction of an HTTP/2 connection, as far as a fault must know them: which
//! stream a request opens, what it carries, and when an answer is complete.
//!
//! Looks only; it never changes a byte. Headers are compressed and stay unread: a request is recognised by
//! its body, which is plain protobuf with the keys in it.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// Headers without the end of the stream: from a client, a new call.
    Opened(u32),
    /// A whole frame of a body.
    Body(u32, Vec<u8>),
    /// The last frame of a stream.
    Ended(u32),
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Frames {
    preface_left: usize,
    pending: Vec<u8>,
}

impl Frames {
    pub(super) fn from_client() -> Self {
        Self { preface_left: PREFACE.len(), pending: Vec::new() }
    }

    pub(super) fn from_server() -> Self {
        Self { preface_left: 0, pending: Vec::new() }
    }

    /// Takes the next bytes of the stream, cut anywhere.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Vec<Seen> {
        let skipped = self.preface_left.min(bytes.len());
        self.preface_left -= skipped;
        bytes = &bytes[skipped..];
        self.pending.extend_from_slice(bytes);
        let mut seen = Vec::new();
        let mut at = 0;
        while let Some(header) = self.pending.get(at..at + HEADER) {
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let (kind, flags) = (header[3], header[4]);
            let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & 0x7fff_ffff;
            let Some(payload) = self.pending.get(at + HEADER..at + HEADER + length) else { break };
            let last = flags & END_STREAM != 0;
            match kind {
                HEADERS if !last => seen.push(Seen::Opened(stream)),
                DATA => seen.push(Seen::Body(stream, payload.to_vec())),
                _ => {}
            }
            if last && matches!(kind, HEADERS | DATA) {
                seen.push(Seen::Ended(stream));
            }
            at += HEADER + length;
        }
        self.pending.drain(..at);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("short");
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    #[test]
    fn frames_are_found_however_the_stream_is_cut() {
        const SETTINGS: u8 = 4;
        let stream = [
            PREFACE.to_vec(),
            frame(SETTINGS, 1, 0, b""),
            frame(HEADERS, 4, 1, b"hpack"),
            frame(DATA, 0, 1, b"first"),
            frame(DATA, END_STREAM, 1, b"last"),
            frame(HEADERS, END_STREAM, 3, b"trailers"),
        ]
        .concat();
        let expected = [
            Seen::Opened(1),
            Seen::Body(1, b"first".to_vec()),
            Seen::Body(1, b"last".to_vec()),
            Seen::Ended(1),
            Seen::Ended(3),
        ];
        for size in 1..=stream.len() {
            let mut frames = Frames::from_client();
            let seen: Vec<_> = stream.chunks(size).flat_map(|chunk| frames.feed(chunk)).collect();
            assert_eq!(seen, expected, "in chunks of {size}");
        }
    }
}
