//! The story that all scenarios of one broken service tell.

use std::sync::Arc;

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;
use nixmox_tests::shared::{Host, Shared};

static SHARED: Shared = Shared::new();

/// Returns the host of the scenarios that disturb nothing but a service of their own.
pub(crate) fn host() -> Arc<Host> {
    SHARED.host("failures").expect("the host boots")
}

/// One broken service, in a stack with a healthy one beside it and one that needs it.
pub(crate) struct Fault<'a> {
    /// The name of the stack; its services are `NAME-keep`, `NAME-bad` and `NAME-next`.
    pub(crate) name: &'a str,
    /// The keys of the broken service.
    pub(crate) bad: &'a str,
    /// What `up` must say.
    pub(crate) words: &'a [&'a str],
}

impl Fault<'_> {
    /// Brings the stack up without the broken service, then with it, then again after `mend`.
    ///
    /// `mend` returns the keys of the service from then on.
    pub(crate) fn story(&self, host: &Host, mend: impl FnOnce(&Stack<'_>) -> String) {
        self.spoiled(host, |_| (), mend);
    }

    /// Like [`Fault::story`]; `spoil` breaks something once the healthy part is up.
    pub(crate) fn spoiled(
        &self,
        host: &Host,
        spoil: impl FnOnce(&Stack<'_>),
        mend: impl FnOnce(&Stack<'_>) -> String,
    ) {
        let name = self.name;
        let stack = Stack::new(host, name);
        let system = host.guest("well", &Behaviour::new().http(80)).expect("a system");
        let keep = format!(
            "[services.{name}-keep]\nsystem = \"{system}\"\nhealth = {{ http = \"http://localhost/\", interval = \"1s\" }}"
        );
        let next = format!("[services.{name}-next]\nsystem = \"{system}\"\ndepends_on = [\"{name}-bad\"]");
        let bad = |keys: &str| format!("[services.{name}-bad]\n{keys}");

        stack.declare(&[&keep]).expect("a manifest");
        stack.succeed("up").expect("the healthy part comes up");
        let before = stack.healthy(&format!("{name}-keep")).expect("healthy");

        spoil(&stack);
        stack.declare(&[&keep, &bad(self.bad), &next]).expect("a manifest");
        stack.refuse("up", 1, self.words).expect("up names the cause and the way out");
        let after = stack.healthy(&format!("{name}-keep")).expect("the rest of the stack is healthy");
        assert_eq!(before, after, "the rest of the stack is untouched");
        host.fail(&format!("systemctl is-active container@{name}-next")).expect("what needs it is not started");

        let mended = mend(&stack);
        stack.declare(&[&keep, &bad(&mended), &next]).expect("a manifest");
        stack.succeed("up").expect("up succeeds once the cause is gone");
        stack.healthy(&format!("{name}-bad")).expect("mended");
        stack.healthy(&format!("{name}-next")).expect("started in its turn");
        let last = stack.healthy(&format!("{name}-keep")).expect("the rest of the stack is healthy");
        assert_eq!(before, last, "the rest of the stack is untouched");
        stack.succeed("down").expect("taken down");
    }
}
