//! What a key may be used for.

use std::fmt;
use std::str::FromStr;

/// One use of a key. No scope holds another: a key may do what its scopes name, and nothing else.
// In alphabetical order, as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// To change how the ledger is run: release a quarantined delivery, lift a lockdown.
    Admin,
    /// To take rows out in bulk.
    Export,
    /// To append.
    Ingest,
    /// To look up rows, checks and proofs.
    Read,
    /// To run a check.
    Verify,
}

/// There is no such scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scope is one of admin, export, ingest, read, verify")]
pub struct ScopeError;

impl Scope {
    /// Every scope, in order.
    pub const ALL: [Self; 5] = [Self::Admin, Self::Export, Self::Ingest, Self::Read, Self::Verify];

    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Export => "export",
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Verify => "verify",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(name: &str) -> Result<Self, ScopeError> {
        Self::ALL.into_iter().find(|scope| scope.name() == name).ok_or(ScopeError)
    }
}

/// The scopes of a key: in order, each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes([bool; Scope::ALL.len()]);

impl Scopes {
    /// All there are.
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether this is one of them.
    pub fn contains(self, scope: Scope) -> bool {
        self.0[scope as usize]
    }

    /// Their names, in order.
    pub fn names(self) -> Vec<&'static str> {
        Scope::ALL.into_iter().filter(|&scope| self.contains(scope)).map(Scope::name).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut set = Self::default();
        for scope in scopes {
            set.0[scope as usize] = true;
        }
        set
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

/// A scope as a type, so that a handler's signature says which one it needs.
pub trait Required: Send + Sync + 'static {
    /// That scope.
    const SCOPE: Scope;
}

macro_rules! required {
    ($($name:ident)*) => {$(
        #[doc = concat!("[`Scope::", stringify!($name), "`] as a type.")]
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        impl Required for $name {
            const SCOPE: Scope = Scope::$name;
        }
    )*};
}

required!(Admin Export Ingest Read Verify);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_in_order_and_each_once() {
        let scopes: Scopes = [Scope::Verify, Scope::Admin, Scope::Verify].into_iter().collect();
        assert_eq!(scopes.names(), ["admin", "verify"]);
        assert_eq!(scopes.to_string(), "admin, verify");
        assert!(scopes.contains(Scope::Admin) && !scopes.contains(Scope::Read));
        let mut sorted = Scopes::all().names();
        sorted.sort_unstable();
        assert_eq!(Scopes::all().names(), sorted);
        for scope in Scope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
        }
        assert_eq!("Admin".parse::<Scope>(), Err(ScopeError));
    }
}
