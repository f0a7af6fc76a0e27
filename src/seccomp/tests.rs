//! Tests of the policies: against the kernel's rules and against libseccomp.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::interpret::{Call, run};
use super::table::ROWS;
use super::*;

fn decide(program: &[Instruction], arch: Arch, number: u32, arguments: [u64; 6]) -> Action {
    run(program, Call { number, arch: arch.audit(), arguments }).expect("a sound program").0
}

/// Numbers of which a search could go wrong.
fn numbers() -> impl Iterator<Item = u32> {
    (0..600).chain([0x3fff_ffff, 0x4000_0000, 0x4000_0001, 0x4000_01ff, u32::MAX - 1, u32::MAX])
}

#[test]
fn the_table_is_sorted_and_no_number_is_given_twice() {
    for pair in ROWS.windows(2) {
        assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
    }
    for arch in Arch::ALL {
        let mut seen = std::collections::BTreeMap::new();
        for row in ROWS {
            let Some(number) = row.number(arch) else { continue };
            assert!(usize::from(number) < table::LIMIT, "{}", row.name);
            if let Some(other) = seen.insert(number, row.name) {
                panic!("{} and {other} have the number {number} on {}", row.name, arch.name());
            }
            assert_eq!(table::name(arch, number.into()), Some(row.name));
        }
    }
    for row in ROWS {
        assert_eq!(table::find(row.name).map(|found| found.name), Some(row.name));
    }
}

#[test]
fn sets_hold_known_calls() {
    for set in sets::names() {
        let members = sets::members(set);
        assert!(!members.is_empty(), "{set}");
        for name in members {
            assert!(table::find(name).is_some(), "{set} names `{name}`");
        }
    }
}

#[test]
fn the_programs_in_the_source_are_the_compilers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/seccomp/programs.rs");
    let text = std::fs::read_to_string(&path).unwrap();
    let mark = "// Generated from here on.\n";
    let (head, _) = text.split_once(mark).unwrap();
    let mut wanted = format!("{head}{mark}");
    for (index, arch) in Arch::ALL.into_iter().enumerate() {
        let program = compile(&Policy::preset(arch, Preset::Default, 0));
        let gap = if index == 0 { "" } else { "\n" };
        let name = arch.name().to_uppercase();
        writeln!(wanted, "{gap}#[rustfmt::skip]").unwrap();
        writeln!(wanted, "static {name}: [Instruction; {}] = [", program.len()).unwrap();
        for it in program {
            writeln!(wanted, "    i({:#04x}, {}, {}, {:#x}),", it.code, it.yes, it.no, it.k)
                .unwrap();
        }
        wanted.push_str("];\n");
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(text == wanted, "src/seccomp/programs.rs is out of date: run this test with UPDATE=1");
}

#[test]
fn the_default_program_is_short() {
    for arch in Arch::ALL {
        let program = compile(&Policy::preset(arch, Preset::Default, 0));
        assert!(program.len() <= 210, "{}: {}", arch.name(), program.len());
        let longest = numbers()
            .map(|number| {
                let call = Call { number, arch: arch.audit(), arguments: [0; 6] };
                run(&program, call).unwrap().1
            })
            .max();
        assert!(longest <= Some(20), "{}: {longest:?} for one call", arch.name());
    }
}
