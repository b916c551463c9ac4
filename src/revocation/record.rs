//! How entries stand in the journal: the bytes, and the reading of them. It opens no file.
//!
//! ```text
//! header  "claimgate revocations 1\n"
//! frame   length u32 │ its complement u32 │ first 8 bytes of SHA-256(length, records) │ records
//! record  kind u8 │ epoch u32 │ since u32 │ until u32 │ issuer length u16 │ value length u16 │ issuer │ value
//! ```
//!
//! All numbers are little-endian. One frame is one write that was made durable before the next began, so only the last
//! one can be torn. A frame that is whole and wrong anywhere else is damage, and so is a length that contradicts its
//! complement: what follows it cannot be found any more, and is never given up in silence.

use aws_lc_rs::digest::{Context, SHA256};

use crate::token::{Mark, RevocationKind, Target};

/// How a journal begins. The digit is the version.
pub(super) const HEADER: &[u8; 24] = b"claimgate revocations 1\n";
/// What stands before the records of a frame.
pub(super) const FRAME_HEAD: usize = 16;
/// Most bytes of records in one frame.
pub(super) const LONGEST_FRAME: usize = 8 << 20;
/// Longest issuer or value: far more than a token can carry.
pub(super) const LONGEST_NAME: usize = u16::MAX as usize;
/// What a record has before its names.
const RECORD_HEAD: usize = 1 + 3 * 4 + 2 * 2;

/// One record.
pub(super) type Record = (Target, Mark);

/// What stands at one place of a journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'b> {
    /// A whole frame: its records, and what follows it.
    Whole(Vec<Record>, &'b [u8]),
    /// The beginning of a frame whose end was never written, or nothing but zeros.
    Torn,
    /// Something that no torn write leaves behind.
    Damaged(&'static str),
}

/// Adds one record to the bytes of a frame.
pub(super) fn push(records: &mut Vec<u8>, target: &Target, mark: Mark) {
    let (kind, issuer, value) = target.parts();
    records.push(u8::try_from(kind.index()).unwrap_or(u8::MAX));
    for number in [mark.epoch, mark.since, mark.until] {
        records.extend_from_slice(&number.to_le_bytes());
    }
    for name in [issuer, value] {
        records.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
    }
    records.extend_from_slice(issuer.as_bytes());
    records.extend_from_slice(value.as_bytes());
}

/// A whole frame around records.
pub(super) fn frame(records: &[u8]) -> Vec<u8> {
    let length = u32::try_from(records.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(FRAME_HEAD + records.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&(!length).to_le_bytes());
    frame.extend_from_slice(&checksum(length, records));
    frame.extend_from_slice(records);
    frame
}

/// Reads the frame at the beginning of `bytes`, which go on to the end of the journal; never empty.
pub(super) fn read(bytes: &[u8]) -> Frame<'_> {
    let Some((head, rest)) = bytes.split_at_checked(FRAME_HEAD) else { return Frame::Torn };
    let (Some(length), Some(complement)) = (number(head, 0), number(head, 4)) else { return Frame::Torn };
    if length != !complement || length == 0 {
        // Where the size of a file was made durable before its content, zeros stand at the end.
        let is_blank = bytes.iter().all(|byte| *byte == 0);
        return if is_blank { Frame::Torn } else { Frame::Damaged("the length of a frame contradicts itself") };
    }
    let Ok(size) = usize::try_from(length) else { return Frame::Damaged("a frame is too long") };
    if size > LONGEST_FRAME + LONGEST_NAME * 3 {
        return Frame::Damaged("a frame is too long");
    }
    let Some((records, after)) = rest.split_at_checked(size) else { return Frame::Torn };
    if head.get(8..) != Some(checksum(length, records).as_slice()) {
        return if after.is_empty() { Frame::Torn } else { Frame::Damaged("the checksum of a frame is wrong") };
    }
    match parse(records) {
        Some(records) => Frame::Whole(records, after),
        None => Frame::Damaged("a frame holds something else than records"),
    }
}

fn parse(mut bytes: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at_checked(RECORD_HEAD)?;
        let kind = *RevocationKind::ALL.get(usize::from(*head.first()?))?;
        let mark = Mark { epoch: number(head, 1)?, since: number(head, 5)?, until: number(head, 9)? };
        let length = |at: usize| Some(usize::from(u16::from_le_bytes(*head.get(at..)?.first_chunk()?)));
        let (issuer, rest) = rest.split_at_checked(length(13)?)?;
        let (value, rest) = rest.split_at_checked(length(15)?)?;
        let name = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        records.push((Target::from_parts(kind, name(issuer)?, name(value)?), mark));
        bytes = rest;
    }
    Some(records)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn checksum(length: u32, records: &[u8]) -> [u8; 8] {
    let mut context = Context::new(&SHA256);
    context.update(&length.to_le_bytes());
    context.update(records);
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let mark = Mark { epoch: 7, since: 8, until: Mark::NEVER };
        let target = |kind, value: &str| Target::from_parts(kind, "https://idp.example".to_owned(), value.to_owned());
        vec![
            (target(RevocationKind::Token, "j"), mark),
            (target(RevocationKind::Issuer, ""), mark),
            (Target::Tenant { tenant: "é".to_owned() }, Mark { epoch: Mark::ALWAYS, ..mark }),
        ]
    }

    fn framed(records: &[Record]) -> Vec<u8> {
        let mut bytes = Vec::new();
        records.iter().for_each(|(target, mark)| push(&mut bytes, target, *mark));
        frame(&bytes)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = framed(&records());
        assert_eq!(read(&bytes), Frame::Whole(records(), &[]));
        bytes.extend_from_slice(b"next");
        assert_eq!(read(&bytes), Frame::Whole(records(), b"next"));
    }

    #[test]
    fn a_frame_that_ends_too_soon_is_torn() {
        let bytes = framed(&records());
        for end in 1..bytes.len() {
            assert_eq!(read(&bytes[..end]), Frame::Torn, "{end}");
            // The size was written, and the content was not.
            let mut blank = bytes[..end].to_vec();
            blank.resize(bytes.len(), 0);
            if end >= 8 {
                assert_eq!(read(&blank), Frame::Torn, "{end} and zeros");
            }
        }
        assert_eq!(read(&[0; 100]), Frame::Torn);
    }

    #[test]
    fn a_changed_byte_is_never_believed() {
        let last = framed(&records());
        for at in 0..last.len() {
            for bit in 0..8 {
                let mut bytes = last.clone();
                bytes[at] ^= 1 << bit;
                // At the end it may be a torn write; the length is never guessed.
                let want = at >= 8;
                assert_eq!(read(&bytes) == Frame::Torn, want, "{at}");
                bytes.extend_from_slice(&last);
                assert!(matches!(read(&bytes), Frame::Damaged(_)), "{at} in the middle");
            }
        }
    }

    #[test]
    fn a_good_checksum_around_something_else_is_damage() {
        for records in [&b"x"[..], &[9; 40], &[0; 16]] {
            assert!(matches!(read(&frame(records)), Frame::Damaged(_)), "{records:?}");
        }
        assert!(matches!(read(&frame(&[0; 17])), Frame::Whole(..)), "an empty name is a name");
    }
}
