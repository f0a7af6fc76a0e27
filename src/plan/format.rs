//! What kind of program a file is, as execve(2) decides it by its first bytes.

/// With what a file for binfmt_elf starts.
pub(super) const ELF: &[u8] = b"\x7fELF";

/// So many scripts may name each other as interpreters, and the last of them a
/// program: the kernel gives up at the next.
pub(super) const SCRIPTS: u32 = 5;

/// Bytes that the kernel looks at, binfmts.h.
const BUFFER: usize = 256;

/// A format, and the interpreter or loader that the file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Script(String),
    Elf(Option<String>),
    /// Nothing that this kernel executes by itself; what it may have been told
    /// of could.
    Foreign,
    /// No format at all; why.
    Nothing(&'static str),
}

/// The format of a file with that beginning.
pub(super) fn of(head: &[u8]) -> Format {
    match head {
        [] => Format::Nothing("an empty file"),
        [b'#', b'!', rest @ ..] => match script(&rest[..rest.len().min(BUFFER - 2)]) {
            Some(name) => Format::Script(String::from_utf8_lossy(name).into_owned()),
            None => Format::Nothing("a script that names no interpreter"),
        },
        _ if head.starts_with(ELF) => elf(head),
        _ if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => {
            Format::Nothing("a text without `#!`")
        }
        _ => Format::Foreign,
    }
}

/// The name between `#!` and the end of the line, or an argument.
fn script(line: &[u8]) -> Option<&[u8]> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = line.iter().position(|byte| *byte == b'\n');
    let is_cut = end.is_none() && line.len() == BUFFER - 2;
    let line = &line[..end.unwrap_or(line.len())];
    let name = &line[line.iter().position(|byte| !is_blank(byte))?..];
    let end = name.iter().position(|byte| is_blank(byte) || *byte == 0);
    // Of a name that goes on behind the buffer nobody knows the rest.
    if end.is_none() && is_cut {
        return None;
    }
    Some(&name[..end.unwrap_or(name.len())]).filter(|name| !name.is_empty())
}

fn elf(head: &[u8]) -> Format {
    // What the kernel does not find in a short file is 0 to it.
    let byte = |at: usize| u16::from(head.get(at).copied().unwrap_or(0));
    let half = |at: usize| byte(at) | byte(at + 1) << 8;
    const BIG_ENDIAN: u16 = 2;
    let machines: &[u16] = match std::env::consts::ARCH {
        "x86_64" => &[62, 3],
        "aarch64" => &[183, 40],
        "riscv64" => &[243],
        _ => return Format::Elf(interpreter(head)),
    };
    // `ET_EXEC` and `ET_DYN`.
    let is_program = matches!(half(16), 2 | 3);
    if byte(5) != BIG_ENDIAN && !is_program {
        return Format::Nothing("an ELF file that is no program, or damaged");
    }
    if byte(5) == BIG_ENDIAN || !machines.contains(&half(18)) {
        return Format::Foreign;
    }
    Format::Elf(interpreter(head))
}

/// `PT_INTERP` of a 64-bit little-endian ELF file whose head is given.
fn interpreter(head: &[u8]) -> Option<String> {
    let word = |offset: usize, length: usize| -> Option<u64> {
        let bytes = head.get(offset..offset.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    if head.get(4..6)? != [2, 1] {
        return None;
    }
    let table = usize::try_from(word(32, 8)?).ok()?;
    let size = usize::try_from(word(54, 2)?).ok()?;
    let count = usize::try_from(word(56, 2)?).ok()?;
    const PT_INTERP: u64 = 3;
    (0..count.min(64)).find_map(|index| {
        let header = table.checked_add(index.checked_mul(size)?)?;
        if word(header, 4)? != PT_INTERP {
            return None;
        }
        let start = usize::try_from(word(header + 8, 8)?).ok()?;
        let length = usize::try_from(word(header + 32, 8)?).ok()?;
        let text = head.get(start..start.checked_add(length)?)?;
        let text = text.strip_suffix(&[0]).unwrap_or(text);
        Some(String::from_utf8_lossy(text).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_its_interpreter_as_the_kernel_reads_it() {
        let script = |line: &str| match of(line.as_bytes()) {
            Format::Script(name) => Some(name),
            Format::Nothing("a script that names no interpreter") => None,
            other => panic!("{line}: {other:?}"),
        };
        for (line, name) in [
            ("#!/bin/sh\n", "/bin/sh"),
            ("#!/bin/sh", "/bin/sh"),
            ("#! \t/bin/sh -e\n", "/bin/sh"),
            ("#!/bin/sh\r\n", "/bin/sh\r"),
            ("#!/bin/sh\0x", "/bin/sh"),
            ("#!sh\n", "sh"),
        ] {
            assert_eq!(script(line).as_deref(), Some(name), "{line}");
        }
        for line in ["#!", "#!\n/bin/sh", "#! \t\n"] {
            assert_eq!(script(line), None, "{line}");
        }
        let long = format!("#!/{}", "a".repeat(300));
        assert_eq!(script(&long), None);
        assert_eq!(script(&long[..255]).as_deref(), Some(&long[2..255]));
        let ends = format!("{} -x", &long[..200]);
        assert_eq!(script(&ends).as_deref(), Some(&long[2..200]));
    }

    #[test]
    fn what_the_kernel_may_have_been_told_to_execute_is_no_nothing() {
        assert_eq!(of(b"MZ\x90\0"), Format::Foreign);
        assert_eq!(of(b""), Format::Nothing("an empty file"));
        assert_eq!(of(b"echo\n"), Format::Nothing("a text without `#!`"));
        assert!(matches!(of(ELF), Format::Nothing(_)));
        let mut head = [0; 64];
        head[..4].copy_from_slice(ELF);
        head[4..6].copy_from_slice(&[2, 2]);
        // s390x.
        (head[17], head[19]) = (2, 22);
        assert_eq!(of(&head), Format::Foreign);
    }
}
