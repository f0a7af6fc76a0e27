//! `[security.landlock]`: what the command may reach, of what it sees.

use super::decode::{Context, Findings, FromNode, Reader, Setting, one_of};
use super::tree::{Node, Table};
use super::value::{Bounded, JailPath};
use crate::names::LandlockScope;

/// The table. A key that is absent restricts nothing.
#[derive(Clone, Debug, Default)]
pub struct Landlock {
    /// `read`, `write` and `execute`.
    pub paths: [Option<Setting<Vec<Setting<JailPath>>>>; 3],
    /// `bind-tcp` and `connect-tcp`.
    pub ports: [Option<Setting<Vec<u16>>>; 2],
    /// `scope`.
    pub scope: Option<Setting<Vec<LandlockScope>>>,
    /// `best-effort`.
    pub best_effort: Option<Setting<bool>>,
}

/// Keys of `Landlock::paths`, in order.
pub const PATH_KEYS: [&str; 3] = ["read", "write", "execute"];
/// Keys of `Landlock::ports`, in order.
pub const PORT_KEYS: [&str; 2] = ["bind-tcp", "connect-tcp"];

impl FromNode for LandlockScope {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        one_of(
            node,
            cx,
            &[("abstract-unix-socket", Self::AbstractUnixSocket), ("signal", Self::Signal)],
        )
    }
}

impl Landlock {
    pub(super) fn read(table: Option<&Table>, findings: &Findings) -> Self {
        let reader = Reader::new(table, "security.landlock", findings);
        let ports = |key| {
            let ports = reader.get::<Vec<Setting<Bounded<0, 65_535>>>>(key)?;
            Some(ports.map(|ports| {
                ports.iter().filter_map(|port| u16::try_from(port.value.0).ok()).collect()
            }))
        };
        Self {
            paths: PATH_KEYS.map(|key| reader.get(key)),
            ports: PORT_KEYS.map(ports),
            scope: reader
                .get::<Vec<Setting<LandlockScope>>>("scope")
                .map(|scope| scope.map(|list| list.into_iter().map(|scope| scope.value).collect())),
            best_effort: reader.get("best-effort"),
        }
    }

    /// Whether anything is restricted.
    pub fn is_used(&self) -> bool {
        self.paths.iter().any(Option::is_some)
            || self.ports.iter().any(Option::is_some)
            || self.scope.is_some()
    }
}
