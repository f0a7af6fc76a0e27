//! `security.sysctl`: parameters of the kernel that belong to a namespace.

use super::decode::{Context, FromNode};
use super::tree::{Node, Table, Value};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Path below `/proc/sys`, such as `net/ipv4/ip_forward`.
    pub path: String,
    /// The text to write.
    pub value: String,
    /// Where it was written.
    pub span: Span,
}

/// The namespace that a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// `net/…`
    Net,
    /// Shared memory, messages and semaphores.
    Ipc,
    /// Host and domain name.
    Uts,
    /// `user/…`: how many namespaces there may be.
    User,
}

impl Sysctl {
    /// The name as sysctl(8) writes it.
    pub fn name(&self) -> String {
        if self.path.contains('.') { self.path.clone() } else { self.path.replace('/', ".") }
    }

    /// The namespace it belongs to; `None` for those of the whole system.
    /// See `Documentation/admin-guide/sysctl/` and namespaces(7).
    pub fn owner(&self) -> Option<Owner> {
        let (directory, rest) = self.path.split_once('/')?;
        match (directory, rest) {
            ("net", rest) if is_of_all_networks(rest) => None,
            ("net", _) => Some(Owner::Net),
            ("user", _) => Some(Owner::User),
            ("fs", rest) if rest.starts_with("mqueue/") => Some(Owner::Ipc),
            ("kernel", "hostname" | "domainname") => Some(Owner::Uts),
            ("kernel", "sem" | "sem_next_id" | "shm_rmid_forced" | "shm_next_id") => {
                Some(Owner::Ipc)
            }
            ("kernel", "shmall" | "shmmax" | "shmmni") => Some(Owner::Ipc),
            ("kernel", "msgmax" | "msgmnb" | "msgmni" | "msg_next_id") => Some(Owner::Ipc),
            _ => None,
        }
    }

    /// Whether a network namespace that belongs to a user namespace lacks it, and
    /// the version of Linux that shows it there, if one does.
    pub fn hidden_from_user_namespaces(&self) -> Option<Option<(u32, u32)>> {
        match self.path.strip_prefix("net/")?.split_once('/')? {
            ("core", name) if name.starts_with("xfrm_") => Some(None),
            ("core", _) => Some(Some((6, 3))),
            ("ipv6", "route/max_size") => None,
            ("ipv6", name) if name.starts_with("route/") => Some(None),
            _ => None,
        }
    }
}

/// Whether a parameter below `net` is the whole host's: a network namespace of
/// one's own does not have it, or only to read. Those of `net_core_table`,
/// `ipv4_table` and the like, which the kernel sets up once.
fn is_of_all_networks(name: &str) -> bool {
    match name.split_once('/') {
        Some(("core", name)) => {
            name.starts_with("bpf_jit_") || name.starts_with("netdev_") || CORE.contains(&name)
        }
        Some(("ipv4", name)) => {
            let is_cache = name.starts_with("inet_peer_") || name.starts_with("cipso_");
            is_cache || matches!(name, "tcp_mem" | "udp_mem" | "tcp_max_orphans")
        }
        Some(("ipv6", name)) => matches!(name, "mld_max_msf" | "mld_qrv"),
        _ => false,
    }
}

const CORE: &[&str] = &[
    "busy_poll",
    "busy_read",
    "default_qdisc",
    "dev_weight",
    "dev_weight_rx_bias",
    "dev_weight_tx_bias",
    "devconf_inherit_init_net",
    "fb_tunnels_only_for_init_net",
    "flow_limit_cpu_bitmap",
    "flow_limit_table_len",
    "gro_normal_batch",
    "high_order_alloc_disable",
    "max_skb_frags",
    "message_burst",
    "message_cost",
    "rmem_default",
    "rmem_max",
    "rps_sock_flow_entries",
    "warnings",
    "wmem_default",
    "wmem_max",
];

/// All of them, in the order of the text.
pub(super) struct Sysctls(pub(super) Vec<Sysctl>);

impl FromNode for Sysctls {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            cx.wrong_type(node, "a table such as { net.ipv4.ip_forward = \"1\" }");
            return None;
        };
        let mut list = Vec::new();
        collect(table, "", cx, &mut list);
        // Two ways of writing a name lead to the same file.
        let mut seen: Vec<Sysctl> = Vec::new();
        for sysctl in list {
            match seen.iter().find(|known| known.path == sysctl.path) {
                Some(known) => cx.findings.push(
                    Diagnostic::error("E0105", format!("`{}` is set twice", sysctl.name()))
                        .at(sysctl.span, "again here")
                        .context(Some(known.span), "set here"),
                ),
                None => seen.push(sysctl),
            }
        }
        Some(Self(seen))
    }
}

/// A name without quotes is a table within tables to TOML.
fn collect(table: &Table, prefix: &str, cx: Context<'_>, list: &mut Vec<Sysctl>) {
    for entry in &table.entries {
        // As in sysctl(8): with slashes first, dots are part of the names.
        let key = match entry.key.find(['/', '.']).map(|at| entry.key.as_bytes()[at]) {
            Some(b'/') => entry.key.clone(),
            _ => entry.key.replace('.', "/"),
        };
        let path = if prefix.is_empty() { key } else { format!("{prefix}/{key}") };
        let text = match &entry.node.value {
            Value::Table(inner) => {
                collect(inner, &path, cx, list);
                continue;
            }
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            _ => {
                Context { key: &entry.key, ..cx }.wrong_type(&entry.node, "a string or a number");
                continue;
            }
        };
        let is_part = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part.bytes().all(|b| b.is_ascii_graphic())
        };
        if !path.contains('/') || !path.split('/').all(is_part) {
            cx.findings.push(
                Diagnostic::error(
                    "E0103",
                    format!("`{}` is not the name of a sysctl", path.escape_debug()),
                )
                .at(entry.key_span, "expected a name such as net.ipv4.ip_forward"),
            );
            continue;
        }
        if text.trim().is_empty() || text.contains(['\n', '\0']) || text.len() > 4000 {
            cx.findings.push(
                Diagnostic::error("E0103", "not a value of a sysctl")
                    .at(entry.node.span, "expected one line of text"),
            );
            continue;
        }
        list.push(Sysctl { path, value: text, span: entry.node.span });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(path: &str) -> Option<Owner> {
        let span = Span { source: 0, start: 0, end: 0 };
        Sysctl { path: path.to_owned(), value: "0".to_owned(), span }.owner()
    }

    #[test]
    fn only_what_a_namespace_has_of_its_own_has_an_owner() {
        assert_eq!(owner("net/ipv4/conf/eth0.1/forwarding"), Some(Owner::Net));
        assert_eq!(owner("kernel/shmmax"), Some(Owner::Ipc));
        assert_eq!(owner("fs/mqueue/msg_max"), Some(Owner::Ipc));
        assert_eq!(owner("kernel/domainname"), Some(Owner::Uts));
        assert_eq!(owner("user/max_user_namespaces"), Some(Owner::User));
        for whole in ["kernel/core_pattern", "kernel/shm", "vm/swappiness", "fs/file-max", "net"] {
            assert_eq!(owner(whole), None, "{whole}");
        }
    }
}
