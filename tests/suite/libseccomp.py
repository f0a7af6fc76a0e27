"""Filters of libseccomp for profiles on standard input, one a line: what an
OCI runtime would load. Prints the program in hexadecimal, and the names that
this libseccomp does not know, one JSON a line. A list of `names` is answered with
their numbers instead."""

import json
import sys
import tempfile

import seccomp

ARCHES = {"SCMP_ARCH_X86_64": seccomp.Arch.X86_64, "SCMP_ARCH_AARCH64": seccomp.Arch.AARCH64}
OPERATORS = {
    "SCMP_CMP_EQ": seccomp.EQ, "SCMP_CMP_NE": seccomp.NE, "SCMP_CMP_LT": seccomp.LT,
    "SCMP_CMP_LE": seccomp.LE, "SCMP_CMP_GT": seccomp.GT, "SCMP_CMP_GE": seccomp.GE,
    "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ,
}


def action(name, errno):
    if name == "SCMP_ACT_ERRNO":
        return seccomp.ERRNO(1 if errno is None else errno)
    return {
        "SCMP_ACT_ALLOW": seccomp.ALLOW, "SCMP_ACT_LOG": seccomp.LOG, "SCMP_ACT_TRAP": seccomp.TRAP,
        "SCMP_ACT_KILL_THREAD": seccomp.KILL, "SCMP_ACT_KILL_PROCESS": seccomp.KILL_PROCESS,
    }[name]


def numbers(question):
    answer = {}
    for name in question["names"]:
        answer[name] = {
            arch: seccomp.resolve_syscall(seccomp.Arch(number), name)
            for arch, number in ARCHES.items()
        }
    return answer


def program(profile):
    arch = seccomp.Arch(ARCHES[profile["architectures"][0]])
    filter = seccomp.SyscallFilter(action(profile["defaultAction"], profile.get("defaultErrnoRet")))
    if not filter.exist_arch(arch):
        filter.add_arch(arch)
        filter.remove_arch(seccomp.Arch())
    unknown = []
    for entry in profile["syscalls"]:
        for name in entry["names"]:
            if seccomp.resolve_syscall(arch, name) < 0:
                unknown.append(name)
                continue
            arguments = [
                seccomp.Arg(it["index"], OPERATORS[it["op"]], it["value"], it.get("valueTwo", 0))
                for it in entry.get("args", [])
            ]
            filter.add_rule(action(entry["action"], entry.get("errnoRet")), name, *arguments)
    with tempfile.TemporaryFile() as file:
        filter.export_bpf(file)
        file.seek(0)
        return {"program": file.read().hex(), "unknown": unknown}


for line in sys.stdin:
    question = json.loads(line)
    print(json.dumps(numbers(question) if "names" in question else program(question)))
