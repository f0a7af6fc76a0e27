//! What `with` stands for: files that programs read by fixed paths, and that
//! no program says it needs.
//!
//! One table. What the host lacks is left out; a host that lacks all of an
//! entry is told so.

use std::fmt;

/// A group of files for one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Extra {
    /// Names of users, groups, hosts and services.
    Nss,
    /// Certificates that TLS goes by.
    CaCertificates,
    /// Time zones.
    Tzdata,
    /// Languages, and character sets besides UTF-8.
    Locale,
    /// Capabilities of terminals.
    Terminfo,
}

/// What one extra is made of.
pub(super) struct Parts {
    /// Files and directories. Links are followed.
    pub(super) paths: &'static [&'static str],
    /// Directories whose links may lead elsewhere; what they lead to is taken
    /// too.
    pub(super) link_directories: &'static [&'static str],
    /// Below the directories of glibc's loader.
    pub(super) in_library_directories: &'static [&'static str],
}

const NOTHING: Parts = Parts { paths: &[], link_directories: &[], in_library_directories: &[] };

impl Extra {
    /// Names and values, as `with` has them.
    pub const TABLE: [(&'static str, Self); 5] = [
        ("nss", Self::Nss),
        ("ca-certificates", Self::CaCertificates),
        ("tzdata", Self::Tzdata),
        ("locale", Self::Locale),
        ("terminfo", Self::Terminfo),
    ];

    /// Its name in a unit.
    pub fn name(self) -> &'static str {
        Self::TABLE.iter().find(|(_, extra)| *extra == self).map_or("", |(name, _)| name)
    }

    /// The extra of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(known, _)| *known == name).map(|(_, extra)| *extra)
    }

    pub(super) fn parts(self) -> Parts {
        match self {
            // The libraries that `nsswitch.conf` names are added to these.
            Self::Nss => Parts {
                paths: &[
                    NSSWITCH,
                    "/etc/passwd",
                    "/etc/group",
                    "/etc/hosts",
                    "/etc/host.conf",
                    "/etc/resolv.conf",
                    "/etc/gai.conf",
                    "/etc/services",
                    "/etc/protocols",
                    "/etc/networks",
                ],
                ..NOTHING
            },
            // Directories that hold private keys beside certificates are not
            // taken as a whole.
            Self::CaCertificates => Parts {
                paths: &[
                    "/etc/ca-certificates.conf",
                    "/etc/ca-certificates",
                    "/etc/pki/ca-trust/extracted",
                    "/etc/pki/tls/cert.pem",
                    "/etc/pki/tls/openssl.cnf",
                    "/etc/ssl/cert.pem",
                    "/etc/ssl/ca-bundle.pem",
                    "/etc/ssl/openssl.cnf",
                    // OPENSSLDIR of Debian.
                    "/usr/lib/ssl/cert.pem",
                    "/usr/lib/ssl/certs",
                    "/usr/lib/ssl/openssl.cnf",
                    "/usr/local/share/ca-certificates",
                    "/usr/share/ca-certificates",
                    "/usr/share/pki/ca-trust-source",
                ],
                link_directories: &["/etc/ssl/certs", "/etc/pki/tls/certs"],
                ..NOTHING
            },
            Self::Tzdata => Parts {
                paths: &["/usr/share/zoneinfo", "/etc/localtime", "/etc/timezone"],
                ..NOTHING
            },
            Self::Locale => Parts {
                paths: &[
                    "/usr/lib/locale",
                    // Translations, which a locale without them does not have.
                    "/usr/share/locale",
                    "/etc/locale.alias",
                    "/usr/share/i18n/locales/musl",
                ],
                in_library_directories: &["gconv"],
                ..NOTHING
            },
            Self::Terminfo => Parts {
                paths: &[
                    "/etc/terminfo",
                    "/lib/terminfo",
                    "/usr/lib/terminfo",
                    "/usr/share/terminfo",
                ],
                ..NOTHING
            },
        }
    }
}

impl fmt::Display for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Says which services look names up; nsswitch.conf(5).
pub(super) const NSSWITCH: &str = "/etc/nsswitch.conf";

/// Names of the libraries for the services that a file names, and for those
/// that glibc assumes where it does not name any.
pub(super) fn nss_libraries(nsswitch: &str) -> Vec<String> {
    let lines = nsswitch.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut services: Vec<&str> = lines
        .filter_map(|line| Some(line.split_once(':')?.1))
        // `[NOTFOUND=return]` is what to do, not whom to ask.
        .flat_map(|list| list.split(['[', ']']).step_by(2))
        .flat_map(str::split_ascii_whitespace)
        .filter(|service| service.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .chain(["files", "dns"])
        .collect();
    services.sort_unstable();
    services.dedup();
    services.into_iter().map(|service| format!("libnss_{service}.so.2")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_extras_are_one_to_one() {
        for (name, extra) in Extra::TABLE {
            assert_eq!((extra.name(), Extra::from_name(name)), (name, Some(extra)));
        }
        assert_eq!(Extra::from_name("nscd"), None);
    }

    #[test]
    fn services_are_read_without_what_to_do() {
        let text = "# dns9\npasswd: files systemd\nhosts: mymachines [NOTFOUND=return !X=y] ldap dns # nis\n";
        let names = ["dns", "files", "ldap", "mymachines", "systemd"];
        assert_eq!(nss_libraries(text), names.map(|name| format!("libnss_{name}.so.2")));
        assert_eq!(
            nss_libraries("hosts: ../../x"),
            ["dns", "files"].map(|n| format!("libnss_{n}.so.2"))
        );
    }
}
