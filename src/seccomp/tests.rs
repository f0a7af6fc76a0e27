//! Tests of the policies: against the kernel's rules and against libseccomp.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::interpret::{Call, run};
use super::table::ROWS;
use super::*;
use crate::names;

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

/// Values around those that filters compare with.
fn argument() -> impl Strategy<Value = u64> {
    let edges = vec![
        0,
        1,
        2,
        8,
        10,
        16,
        17,
        0x5412,
        0x541c,
        0x2_0008,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        u64::MAX,
    ];
    prop_oneof![
        any::<u64>(),
        prop::sample::select(edges.clone()),
        (prop::sample::select(edges), any::<u32>())
            .prop_map(|(low, high)| low | u64::from(high) << 32),
    ]
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::Log),
        (1_u16..4095).prop_map(Action::Errno),
        Just(Action::Trap),
        Just(Action::KillThread),
        Just(Action::KillProcess),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let operator = prop_oneof![
        Just(Operator::Eq),
        Just(Operator::Ne),
        Just(Operator::Lt),
        Just(Operator::Le),
        Just(Operator::Gt),
        Just(Operator::Ge),
        argument().prop_map(Operator::MaskedEq),
    ];
    (0_u8..6, any::<bool>(), operator, argument())
        .prop_map(|(argument, wide, operator, value)| Condition { argument, wide, operator, value })
}

fn clauses() -> impl Strategy<Value = Vec<Clause>> {
    let clause = (prop::collection::vec(condition(), 0..4), any_action())
        .prop_map(|(conditions, action)| Clause { conditions, action });
    prop::collection::vec(clause, 0..6)
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let rule = (0..ROWS.len(), any_action());
    let check = (0..ROWS.len(), clauses(), any_action());
    (
        prop::sample::select(&Arch::ALL[..]),
        any_action(),
        any_action(),
        prop::collection::vec(rule, 0..300),
        prop::collection::vec(check, 0..40),
    )
        .prop_map(|(arch, default, unknown, rules, checks)| {
            let mut policy = Policy::new(arch, default);
            policy.unknown = unknown;
            for (row, action) in rules {
                policy.set(ROWS[row].name, action);
            }
            for (row, clauses, otherwise) in checks {
                policy.check(ROWS[row].name, clauses, otherwise);
            }
            policy
        })
}

/// The program answers as the policy decides: for every number, with the given
/// arguments and with those that the policy's own conditions name.
fn agrees(policy: &Policy, arguments: &[[u64; 6]]) {
    let program = compile(policy);
    assert!(program.len() <= MAX_INSTRUCTIONS, "{}", program.len());
    for number in numbers() {
        let decision = policy.decision(number);
        // Where arguments do not matter, one set of them will do.
        let mut sets = arguments[..1].to_vec();
        if let Decision::Depends(clauses, _) = &decision {
            sets = arguments.to_vec();
            for condition in clauses.iter().flat_map(|clause| &clause.conditions) {
                for value in [condition.value, !condition.value, condition.value.wrapping_add(1)] {
                    for mut set in arguments.iter().copied() {
                        set[usize::from(condition.argument)] = value;
                        sets.push(set);
                    }
                }
            }
        }
        for arguments in sets {
            assert_eq!(
                decide(&program, policy.arch, number, arguments),
                decision.action(&arguments),
                "number {number} with {arguments:x?}"
            );
        }
    }
    // Another convention is refused whatever its number means.
    for number in [0, 1, 59, 231] {
        let call = Call { number, arch: 0x4000_0003, arguments: [0; 6] };
        assert_eq!(run(&program, call).unwrap().0, Action::KillProcess);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn programs_decide_as_their_policies(
        policy in any_policy(),
        arguments in prop::collection::vec(prop::array::uniform6(argument()), 1..4),
    ) {
        agrees(&policy, &arguments);
    }

    #[test]
    fn presets_decide_as_their_programs(
        capabilities in any::<u64>(),
        strict in any::<bool>(),
        arguments in prop::collection::vec(prop::array::uniform6(argument()), 1..4),
    ) {
        let preset = if strict { Preset::Strict } else { Preset::Default };
        for arch in Arch::ALL {
            agrees(&Policy::preset(arch, preset, capabilities), &arguments);
        }
    }
}

/// Asks libseccomp, which this program is not linked with.
fn libseccomp(questions: &[serde_json::Value]) -> Vec<serde_json::Value> {
    use std::io::{Seek as _, Write as _};
    use std::process::{Command, Stdio};
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/libseccomp.py");
    let mut input = tempfile::tempfile().unwrap();
    questions.iter().for_each(|question| writeln!(input, "{question}").unwrap());
    input.rewind().unwrap();
    // Debian's own: python3-seccomp is a module of no other.
    let output = Command::new("/usr/bin/python3")
        .arg(script)
        .stdin(Stdio::from(input))
        .output()
        .expect("python3");
    assert!(output.status.success(), "is python3-seccomp installed? {output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_name_has_the_number_that_libseccomp_knows() {
    let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    let answer = &libseccomp(&[serde_json::json!({ "names": names })])[0];
    let mut compared = 0;
    for row in ROWS {
        for (arch, word) in
            [(Arch::X86_64, "SCMP_ARCH_X86_64"), (Arch::Aarch64, "SCMP_ARCH_AARCH64")]
        {
            let theirs = answer[row.name][word].as_i64().unwrap();
            match row.number(arch) {
                // Newer than the library, whose numbers the kernel's own lists tell.
                Some(_) if theirs < 0 && is_new(row.name) => {}
                ours => {
                    assert_eq!(
                        ours.map(i64::from),
                        (theirs >= 0).then_some(theirs),
                        "{}",
                        row.name
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 700, "{compared}");
}

/// Calls that Debian 12's libseccomp has no name for.
fn is_new(name: &str) -> bool {
    let row = table::find(name).unwrap();
    matches!(name, "uprobe" | "uretprobe") || row.number(Arch::X86_64) > Some(450)
}

#[test]
fn new_calls_have_the_numbers_of_the_kernels_lists() {
    // One number for all architectures since 424, `include/uapi/asm-generic/unistd.h`.
    for row in ROWS.iter().filter(|row| row.number(Arch::X86_64) >= Some(424)) {
        assert_eq!(row.number(Arch::X86_64), row.number(Arch::Aarch64), "{}", row.name);
    }
    // Those of them that the C library's bindings name.
    for (name, number) in [
        ("fchmodat2", libc::SYS_fchmodat2),
        ("mseal", libc::SYS_mseal),
        ("clone3", libc::SYS_clone3),
    ] {
        let ours = table::find(name).unwrap().number(Arch::NATIVE);
        assert_eq!(ours.map(i64::from), Some(number), "{name}");
    }
}

/// A program as libseccomp exports it.
fn exported(answer: &serde_json::Value) -> Vec<Instruction> {
    let hex = answer["program"].as_str().unwrap();
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|index| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap())
        .collect();
    bytes
        .chunks_exact(8)
        .map(|it| Instruction {
            code: u16::from_ne_bytes([it[0], it[1]]),
            yes: it[2],
            no: it[3],
            k: u32::from_ne_bytes([it[4], it[5], it[6], it[7]]),
        })
        .collect()
}

/// Arguments that make a difference to a decision.
fn telling(decision: &Decision) -> Vec<[u64; 6]> {
    let mut sets = vec![[0; 6], [u64::MAX; 6]];
    let Decision::Depends(clauses, _) = decision else { return sets };
    for clause in clauses {
        let mut all = [0; 6];
        for condition in &clause.conditions {
            all[usize::from(condition.argument)] = condition.value;
        }
        sets.push(all);
        for condition in &clause.conditions {
            for value in [
                condition.value.wrapping_sub(1),
                condition.value.wrapping_add(1),
                condition.value ^ 1 << 32,
                condition.value ^ 1 << 63,
                condition.value << 32,
            ] {
                let mut set = all;
                set[usize::from(condition.argument)] = value;
                sets.push(set);
            }
        }
    }
    sets
}

/// libseccomp decides as we do: about the policy itself, and about what is
/// read back from its profile.
fn same_as_libseccomp(policies: &[Policy]) {
    let profiles: Vec<_> = policies.iter().map(print::profile).collect();
    let answers = libseccomp(&profiles);
    assert_eq!(answers.len(), policies.len());
    for ((policy, profile), answer) in policies.iter().zip(&profiles).zip(&answers) {
        let theirs = exported(answer);
        let to = profile::For { arch: policy.arch, capabilities: 0, kernel: (6, 18) };
        let read = profile::read(profile.to_string().as_bytes(), &to).unwrap();
        for row in ROWS {
            let Some(number) = row.number(policy.arch) else { continue };
            let number = u32::from(number);
            let decision = policy.decision(number);
            for arguments in telling(&decision) {
                let ours = decision.action(&arguments);
                assert_eq!(
                    read.decision(number).action(&arguments),
                    ours,
                    "{}: read back, {arguments:x?}",
                    row.name
                );
                if !is_new(row.name) {
                    assert_eq!(
                        decide(&theirs, policy.arch, number, arguments),
                        ours,
                        "{}: libseccomp, {arguments:x?}",
                        row.name
                    );
                }
            }
        }
        for number in 471..600 {
            let theirs = decide(&theirs, policy.arch, number, [0; 6]);
            assert_eq!(theirs, policy.default, "number {number}");
            assert_eq!(read.decision(number), Decision::Always(policy.default));
        }
    }
}

#[test]
fn libseccomp_decides_as_the_presets() {
    let mut policies = Vec::new();
    for arch in Arch::ALL {
        for preset in [Preset::Default, Preset::Strict] {
            for capabilities in [0, names::CAP_SYS_ADMIN, names::DEFAULT_CAPABILITIES, u64::MAX] {
                policies.push(Policy::preset(arch, preset, capabilities));
            }
        }
    }
    same_as_libseccomp(&policies);
}

/// A condition of 64 bits, whose value the mask does not cut. libseccomp has no
/// program for a mask without a bit.
fn wide_condition(argument: impl Strategy<Value = u8>) -> impl Strategy<Value = Condition> {
    (argument, condition()).prop_map(|(argument, it)| {
        let (operator, value) = match it.operator {
            Operator::MaskedEq(mask) => (Operator::MaskedEq(mask | 1), it.value & (mask | 1)),
            operator => (operator, it.value),
        };
        Condition { argument, wide: true, operator, value }
    })
}

/// Policies that libseccomp has words for: one action for a call, and either
/// one clause or several of one argument. Of clauses about different arguments
/// it forgets some: it does not go back to the next when the first has failed
/// half-way.
fn portable_policy() -> impl Strategy<Value = Policy> {
    let one = prop::collection::vec(wide_condition(0_u8..6), 1..4).prop_map(|mut conditions| {
        conditions.sort_by_key(|condition| condition.argument);
        conditions.dedup_by_key(|condition| condition.argument);
        vec![conditions]
    });
    let several =
        (0_u8..6, prop::collection::btree_set(argument(), 2..5)).prop_map(|(argument, values)| {
            values
                .into_iter()
                .map(|value| {
                    vec![Condition { argument, wide: true, operator: Operator::Eq, value }]
                })
                .collect()
        });
    let clauses = prop_oneof![one, several];
    let check = (0..ROWS.len(), clauses, any_action());
    (
        prop::sample::select(&Arch::ALL[..]),
        any_action(),
        prop::collection::vec((0..ROWS.len(), any_action()), 0..200),
        prop::collection::vec(check, 0..12),
    )
        .prop_map(|(arch, default, rules, checks)| {
            let mut policy = Policy::new(arch, default);
            policy.unknown = default;
            for (row, action) in rules {
                policy.set(ROWS[row].name, action);
            }
            for (row, clauses, action) in checks {
                let clauses: Vec<_> =
                    clauses.into_iter().map(|conditions| Clause { conditions, action }).collect();
                policy.check(ROWS[row].name, clauses, default);
            }
            policy
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2))]

    #[test]
    fn libseccomp_decides_as_random_policies(
        policies in prop::collection::vec(portable_policy(), 16),
    ) {
        same_as_libseccomp(&policies);
    }
}

proptest! {
    #[test]
    fn no_text_makes_reading_a_profile_panic(text in "[\\PC\n]{0,200}") {
        let to = profile::For { arch: Arch::NATIVE, capabilities: 0, kernel: (6, 1) };
        if let Err(problem) = profile::read(text.as_bytes(), &to) {
            prop_assert!(!problem.reason.is_empty());
        }
    }

    #[test]
    fn no_change_to_a_profile_makes_reading_it_panic(
        cut in 0_usize..4000, with in "[\\PC]{0,6}", length in 0_usize..40,
    ) {
        let policy = Policy::preset(Arch::NATIVE, Preset::Default, 0);
        let mut text = print::profile(&policy).to_string().into_bytes();
        let end = (cut + length).min(text.len());
        text.splice(cut.min(end)..end, with.into_bytes());
        let to = profile::For { arch: Arch::NATIVE, capabilities: 0, kernel: (6, 1) };
        let _read = profile::read(&text, &to);
    }
}

/// What a profile says to a call on this machine.
fn says(profile: &str, name: &str, capabilities: u64, kernel: (u32, u32)) -> Decision {
    let to = profile::For { arch: Arch::X86_64, capabilities, kernel };
    let policy = profile::read(profile.as_bytes(), &to).unwrap();
    policy.decision(table::find(name).unwrap().number(Arch::X86_64).unwrap().into())
}

#[test]
fn profiles_select_by_capability_architecture_and_kernel() {
    let profile = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] }],
        "syscalls": [
            { "names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": null },
            { "name": "write", "action": "SCMP_ACT_LOG" },
            { "names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] } },
            { "names": ["umount2"], "action": "SCMP_ACT_ALLOW", "excludes": { "caps": ["CAP_SYS_ADMIN"] } },
            { "names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "4.8" } },
            { "names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["amd64"] } },
            { "names": ["brk"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["arm64"] } },
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }
        ]
    }"#;
    let allow = Decision::Always(Action::Allow);
    let default = Decision::Always(Action::Errno(38));
    let admin = names::CAP_SYS_ADMIN;
    assert_eq!(says(profile, "read", 0, (6, 1)), allow);
    assert_eq!(says(profile, "write", 0, (6, 1)), Decision::Always(Action::Log));
    assert_eq!(says(profile, "open", 0, (6, 1)), default);
    assert_eq!(says(profile, "mount", 0, (6, 1)), default);
    assert_eq!(says(profile, "mount", admin, (6, 1)), allow);
    assert_eq!(says(profile, "umount2", 0, (6, 1)), allow);
    assert_eq!(says(profile, "umount2", admin, (6, 1)), default);
    assert_eq!(says(profile, "ptrace", 0, (4, 7)), default);
    assert_eq!(says(profile, "ptrace", 0, (4, 8)), allow);
    assert_eq!(says(profile, "arch_prctl", 0, (6, 1)), allow);
    assert_eq!(says(profile, "brk", 0, (6, 1)), default);
    assert_eq!(says(profile, "clone3", 0, (6, 1)), Decision::Always(Action::Errno(1)));
}

#[test]
fn what_is_wrong_with_a_profile_is_told_with_its_place() {
    let to = profile::For { arch: Arch::X86_64, capabilities: 0, kernel: (6, 1) };
    let entry =
        |entry: &str| format!("{{\"defaultAction\": \"SCMP_ACT_LOG\", \"syscalls\": [\n{entry}]}}");
    for (text, line, what) in [
        (String::new(), 1, "EOF"),
        ("{}".to_owned(), 1, "defaultAction"),
        ("{\n\"defaultAction\": \"allow\"\n}".to_owned(), 2, "unknown action `allow`"),
        (entry("{\"names\": [], \"action\": \"SCMP_ACT_NOTIFY\"}"), 2, "another process"),
        (entry("{\"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 5000}"), 2, "not an errno"),
        (
            entry(
                "{\"action\": \"SCMP_ACT_LOG\", \"args\": [\n{\"index\": 6, \"value\": 0, \"op\": \"SCMP_CMP_EQ\"}]}",
            ),
            3,
            "argument 6",
        ),
        (
            entry(
                "{\"action\": \"SCMP_ACT_LOG\", \"args\": [\n{\"index\": 0, \"value\": -1, \"op\": \"SCMP_CMP_EQ\"}]}",
            ),
            3,
            "invalid",
        ),
        (
            entry("{\"action\": \"SCMP_ACT_LOG\", \"includes\": {\"minKernel\": \"new\"}}"),
            2,
            "version",
        ),
        (
            "{\"defaultAction\": \"SCMP_ACT_LOG\", \"listenerPath\": \"/x\"}".to_owned(),
            1,
            "another process",
        ),
        (
            "{\"defaultAction\": \"SCMP_ACT_LOG\", \"architectures\": [\"SCMP_ARCH_S390X\"]}"
                .to_owned(),
            0,
            "other architectures",
        ),
    ] {
        let problem = profile::read(text.as_bytes(), &to).unwrap_err();
        assert_eq!(problem.line, line, "{text}: {problem:?}");
        assert!(problem.reason.contains(what), "{text}: {problem:?}");
    }
}

#[test]
fn the_default_answers_as_documented() {
    use Action::{Allow, Errno};
    for arch in Arch::ALL {
        let policy = Policy::preset(arch, Preset::Default, 0);
        let says = |name: &str, arguments: [u64; 6]| {
            let number = table::find(name).unwrap().number(arch);
            policy.decision(number.unwrap_or(u16::MAX).into()).action(&arguments)
        };
        let first = |value: u64| [value, 0, 0, 0, 0, 0];
        let second = |value: u64| [0, value, 0, 0, 0, 0];
        for name in
            ["read", "openat", "execve", "mmap", "ptrace", "seccomp", "landlock_create_ruleset"]
        {
            assert_eq!(says(name, [0; 6]), Allow, "{name}");
        }
        for name in [
            "mount",
            "umount2",
            "unshare",
            "setns",
            "fsopen",
            "open_tree",
            "open_tree_attr",
            "move_mount",
            "mount_setattr",
            "fspick",
            "fsconfig",
            "fsmount",
            "bpf",
            "keyctl",
            "add_key",
            "userfaultfd",
            "perf_event_open",
            "kexec_load",
            "init_module",
            "swapon",
            "reboot",
            "settimeofday",
            "open_by_handle_at",
            "chroot",
            "pivot_root",
        ] {
            assert_eq!(says(name, [0; 6]), Errno(EPERM), "{name}");
        }
        for name in ["clone3", "io_uring_setup", "io_uring_enter", "io_uring_register"] {
            assert_eq!(says(name, [0; 6]), Errno(ENOSYS), "{name}");
        }
        for flag in
            [0x2_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
        {
            assert_eq!(says("clone", first(flag | 17)), Errno(EPERM), "{flag:#x}");
            assert_eq!(says("clone", first(flag | 17 | 0xff << 32)), Errno(EPERM), "{flag:#x}");
        }
        // As threads and as processes are made.
        assert_eq!(says("clone", first(0x003d_0f00)), Allow);
        assert_eq!(says("clone", first(0x0120_0011)), Allow);
        for family in 0..50 {
            let wanted = if [1, 2, 10, 16].contains(&family) { Allow } else { Errno(EPERM) };
            assert_eq!(says("socket", first(family)), wanted, "{family}");
            assert_eq!(says("socket", first(family | 0xdead << 32)), wanted, "{family}");
            assert_eq!(says("socketpair", first(family)), wanted, "{family}");
        }
        for request in [0x5412, 0x541c] {
            assert_eq!(says("ioctl", second(request)), Errno(EPERM));
            assert_eq!(says("ioctl", second(request | 0x5555 << 32)), Errno(EPERM));
        }
        assert_eq!(says("ioctl", second(0x5413)), Allow);
        assert_eq!(says("personality", first(0x004_0000)), Errno(EPERM));
        assert_eq!(says("personality", first(u64::MAX)), Allow);
        assert_eq!(policy.decision(9999), Decision::Always(Errno(ENOSYS)));
        let admin = Policy::preset(arch, Preset::Default, names::CAP_SYS_ADMIN);
        for name in ["mount", "clone", "clone3", "setns"] {
            let number = table::find(name).unwrap().number(arch).unwrap();
            assert_eq!(admin.decision(number.into()), Decision::Always(Allow), "{name}");
        }
    }
    assert_eq!(
        Policy::preset(Arch::X86_64, Preset::Default, 0).decision(0x4000_0000),
        Decision::Always(Errno(ENOSYS)),
        "x32"
    );
}
