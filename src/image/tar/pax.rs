//! PAX extended headers: records of a length, a keyword and a value, pax(1).

use super::sparse::Records as Sparse;
use super::{Reason, Time, malformed};

/// What the records of an extended header say. What has no meaning on Linux is
/// left out; an empty value takes an earlier one back.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

impl Records {
    pub(super) fn parse(mut data: &[u8]) -> Result<Self, String> {
        let mut records = Self::default();
        while !data.is_empty() {
            let (key, value, rest) =
                split_record(data).ok_or("an extended header with a malformed record")?;
            records.take(key, value).ok_or_else(|| {
                let key = key.escape_ascii();
                format!("the record `{key}` has the value `{}`", super::escape(value))
            })?;
            data = rest;
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link_path = text(),
            b"size" => self.size = optional(value, decimal)?,
            b"uid" => self.uid = optional(value, decimal)?,
            b"gid" => self.gid = optional(value, decimal)?,
            b"mtime" => self.mtime = optional(value, time)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if key.starts_with(b"SCHILY.acl.") || key.starts_with(b"RHT.security.") {
                    // Textual forms, kept by their keywords to be counted.
                    self.xattrs.push((key.to_vec(), Vec::new()));
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(key, value)?;
                }
            }
        }
        Some(())
    }

    /// The records of a global header, which hold for all entries to come.
    ///
    /// Names and sizes for all entries make no sense, and Go's reader, unlike
    /// tar(1), ignores global headers: an archive must not be two archives.
    pub(super) fn into_global(self) -> Result<Self, Reason> {
        let Self { path, link_path, size, uid: _, gid: _, mtime: _, xattrs, sparse } = &self;
        let is_plain = path.is_none()
            && link_path.is_none()
            && size.is_none()
            && xattrs.is_empty()
            && *sparse == Sparse::default();
        if is_plain {
            Ok(self)
        } else {
            Err(malformed("a global header with what belongs to a single entry"))
        }
    }

    /// Fills in what a global header has said.
    pub(super) fn default_to(&mut self, global: &Self) {
        self.uid = self.uid.or(global.uid);
        self.gid = self.gid.or(global.gid);
        self.mtime = self.mtime.or(global.mtime);
    }
}

/// Keyword, value and what follows of `LENGTH KEYWORD=VALUE\n`. The value may
/// hold anything: only the length tells where it ends.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&data[..blank])?).ok()?;
    let (record, rest) = data.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    (equals > 0).then(|| (&record[..equals], &record[equals + 1..], rest))
}

fn optional<T>(value: &[u8], parse: fn(&[u8]) -> Option<T>) -> Option<Option<T>> {
    if value.is_empty() { Some(None) } else { parse(value).map(Some) }
}

/// Digits and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Seconds with any number of decimals, of which nine count; towards the past.
fn time(text: &[u8]) -> Option<Time> {
    let (text, is_negative) = match text.strip_prefix(b"-") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let decimals = parts.next().unwrap_or_default();
    if !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |index| decimals.get(index).map_or(0, |digit| u32::from(digit - b'0'));
    let nanoseconds = (0..9).fold(0, |value, index| value * 10 + digit(index));
    Some(match (is_negative, nanoseconds) {
        (false, nanoseconds) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanoseconds: u32) -> Option<Time> {
        Some(Time { seconds, nanoseconds })
    }

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(time(b"1700000000"), at(1_700_000_000, 0));
        assert_eq!(time(b"1.5"), at(1, 500_000_000));
        assert_eq!(time(b"1.0000000019"), at(1, 1));
        assert_eq!(time(b"-1.25"), at(-2, 750_000_000));
        assert_eq!(time(b"-3"), at(-3, 0));
        for text in [&b""[..], b".5", b"1.x", b"--1", b"1e3", b"99999999999999999999"] {
            assert_eq!(time(text), None);
        }
    }

    #[test]
    fn only_the_length_ends_a_record() {
        let data = b"30 SCHILY.xattr.user.a=x\ny=\0z\n11 path=ab\n";
        let records = Records::parse(data).unwrap();
        assert_eq!(records.xattrs, [(b"user.a".to_vec(), b"x\ny=\0z".to_vec())]);
        assert_eq!(records.path.as_deref(), Some(&b"ab"[..]));
    }

    #[test]
    fn malformed_records_are_errors() {
        for data in [
            &b"11 path=ab"[..],
            b"12 path=ab\n",
            b"10 path=ab\n",
            b"0 path=ab\n",
            b"2 \n",
            b"5 =a\n",
            b"11path=abc\n",
            b"-1 path=ab\n",
            b"99999999999999999999 path=a\n",
            b"11 path=ab\n\0",
            b"10 size=x\n",
            b"11 size=-1\n",
        ] {
            assert!(Records::parse(data).is_err(), "{}", data.escape_ascii());
        }
    }

    #[test]
    fn an_empty_value_takes_back() {
        let records = Records::parse(b"11 path=ab\n8 path=\n11 size=12\n8 size=\n").unwrap();
        assert_eq!((records.path, records.size), (None, None));
    }

    #[test]
    fn global_headers_hold_no_names() {
        assert!(Records::parse(b"15 comment=abc\n").unwrap().into_global().is_ok());
        assert!(Records::parse(b"11 path=ab\n").unwrap().into_global().is_err());
        assert!(Records::parse(b"10 size=9\n").unwrap().into_global().is_err());
    }
}
