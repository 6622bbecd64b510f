//! What a look at the host came to, and what mends it.

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Finding {
    /// What was looked at.
    pub(in crate::cli) name: &'static str,
    /// What was found and what follows from it.
    pub(in crate::cli) says: String,
    /// What is wanted and why, and for how many connections; empty: nothing in particular.
    pub(in crate::cli) wants: String,
    /// A change that no setting makes; `None`: none is needed.
    pub(in crate::cli) advice: Option<String>,
    /// What it takes, whether or not it is so already.
    pub(in crate::cli) settings: Vec<Setting>,
}

impl Finding {
    pub(in crate::cli) fn new(name: &'static str, says: impl Into<String>) -> Self {
        let says = says.into();
        Self { name, says, wants: String::new(), advice: None, settings: Vec::new() }
    }

    pub(in crate::cli) fn wants(mut self, wants: impl Into<String>) -> Self {
        self.wants = wants.into();
        self
    }

    pub(in crate::cli) fn advice(mut self, advice: Option<String>) -> Self {
        self.advice = advice;
        self
    }

    pub(in crate::cli) fn setting(mut self, setting: Setting) -> Self {
        self.settings.push(setting);
        self
    }

    /// The commands or changes that mend it; `None`: nothing is wrong.
    pub(in crate::cli) fn mend(&self) -> Option<String> {
        let unmet = self.settings.iter().filter(|setting| !setting.is_met());
        let commands: Vec<&str> =
            unmet.map(|setting| &*setting.command).chain(self.advice.as_deref()).collect();
        (!commands.is_empty()).then(|| commands.join("; "))
    }
}

/// A value that something on the host should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Setting {
    /// How it is set.
    pub(in crate::cli) kind: Kind,
    /// Name of the sysctl or limit, or path of the file.
    pub(in crate::cli) key: String,
    pub(in crate::cli) now: String,
    /// Equal to `now` where that will do.
    pub(in crate::cli) wanted: String,
    /// What a person types.
    command: String,
}

/// How a setting is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Kind {
    /// `sysctl -w`, `/etc/sysctl.d`.
    Sysctl,
    /// `ulimit`, `/etc/security/limits.d`, the unit of systemd.
    Limit,
    /// A file under `/sys`.
    File,
}

impl Kind {
    /// As `usher check --settings` writes it.
    pub(in crate::cli) const fn name(self) -> &'static str {
        match self {
            Self::Sysctl => "sysctl",
            Self::Limit => "limit",
            Self::File => "file",
        }
    }
}

impl Setting {
    pub(super) fn sysctl(key: &str, now: String, wanted: String) -> Self {
        let quote = if wanted.contains(' ') { "\"" } else { "" };
        let command = format!("sysctl -w {key}={quote}{wanted}{quote}");
        Self { kind: Kind::Sysctl, key: key.into(), now, wanted, command }
    }

    /// A sysctl that must not be smaller.
    pub(in crate::cli) fn at_least(key: &str, now: u64, wanted: u64) -> Self {
        Self::sysctl(key, now.to_string(), wanted.max(now).to_string())
    }

    pub(super) fn file(path: String, now: String, wanted: String) -> Self {
        let command = format!("echo {wanted} > {path}");
        Self { kind: Kind::File, key: path, now, wanted, command }
    }

    pub(super) fn limit(key: &str, now: u64, wanted: u64, command: String) -> Self {
        let (now, wanted) = (now.to_string(), wanted.max(now).to_string());
        Self { kind: Kind::Limit, key: key.into(), now, wanted, command }
    }

    pub(in crate::cli) fn is_met(&self) -> bool {
        self.now == self.wanted
    }
}
