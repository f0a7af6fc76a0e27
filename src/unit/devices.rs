//! `[[devices]]`: device nodes of the host that the jail has.

use super::decode::{Context, Findings, FromNode, Reader, Setting, tables};
use super::tree::{Node, Table, Value};
use super::value::{HostPath, JailPath};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// One entry.
#[derive(Clone, Debug)]
pub struct Device {
    /// As seen inside.
    pub path: Setting<JailPath>,
    /// What may be done with it.
    pub access: Setting<Access>,
    /// The host's node; without it, the same path.
    pub host_path: Option<Setting<HostPath>>,
    /// Left out when the host does not have it.
    pub optional: Setting<bool>,
}

/// What may be done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
}

impl FromNode for Access {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let Value::String(text) = &node.value else {
            cx.wrong_type(node, "\"r\", \"w\" or \"rw\"");
            return None;
        };
        match &**text {
            "r" => Some(Self { read: true, write: false }),
            "w" => Some(Self { read: false, write: true }),
            "rw" => Some(Self { read: true, write: true }),
            _ => {
                let message = format!("`{}` takes \"r\", \"w\" or \"rw\"", cx.key);
                cx.findings.push(cx.invalid(node, message, "not one of them"));
                None
            }
        }
    }
}

/// Reads every entry.
pub fn read(node: Option<&Node>, findings: &Findings) -> Vec<Device> {
    tables(node, "devices", findings, read_one)
}

fn read_one(table: &Table, whole: Span, findings: &Findings) -> Option<Device> {
    let reader = Reader::new(Some(table), "devices", findings);
    let path = reader.get::<JailPath>("path");
    if !reader.has("path") {
        findings
            .push(Diagnostic::error("E0104", "a device without `path`").at(whole, "in this entry"));
    }
    if let Some(Setting { value, span }) = &path
        && value.0.parent().is_none()
    {
        findings.push(
            Diagnostic::error("E0201", "a device over `/`").at_maybe(*span, "the root itself"),
        );
        return None;
    }
    let access = reader.get_or("access", Access { read: true, write: true });
    let host_path = reader.get("host-path");
    let optional = reader.get_or("optional", false);
    Some(Device { path: path?, access, host_path, optional })
}
