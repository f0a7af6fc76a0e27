//! Changing an input, by numbers that a seed decides.

/// xorshift64: the same numbers everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below a bound that is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound
    }
}

/// What readers tend to stumble over.
const PIECES: &[&[u8]] = &[
    b"",
    b"\0",
    b"\n",
    b"\"",
    b"'",
    b"[",
    b"]",
    b"[[",
    b"{",
    b"}",
    b"=",
    b":",
    b",",
    b"-",
    b"..",
    b"/",
    b"\\",
    b"%",
    b"0",
    b"-1",
    b"18446744073709551615",
    b"18446744073709551616",
    b"9223372036854775807",
    b"4294967296",
    b"1e400",
    b"nan",
    b"null",
    b"true",
    b"infinity",
    b"0-",
    b"0-4294967295",
    b"\xff\xfe",
    b"\xe2\x80\xae",
    b"\\040",
    b"\\777",
    b"K",
    b"GiB",
    b"50%",
    b"1w",
    b"584942417355y",
    b"@default",
    b"\x7fELF",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\0\0\0\0\0\0\0\0",
];

/// No input grows beyond this.
const LONGEST: usize = 1 << 16;

/// Makes one to eight changes.
pub(crate) fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(17)).min(input.len());
        match random.below(8) {
            0 | 1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 if at < input.len() => input[at] = random.below(256) as u8,
            3 => drop(input.drain(at..end)),
            4 | 5 => {
                let piece = PIECES[random.below(PIECES.len())];
                input.splice(at..end, piece.iter().copied());
            }
            6 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(65)).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            7 => input.truncate(at),
            _ => input.push(random.below(256) as u8),
        }
        input.truncate(LONGEST);
    }
}
