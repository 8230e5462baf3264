//! Who may enter a guest.

use crate::house::boot;

#[test]
fn an_operator_needs_no_root_and_an_observer_is_refused() {
    let bed = boot("who");
    for (user, groups, code) in
        [("olga", &[][..], 5), ("anna", &["nixmox"][..], 5), ("bob", &["nixmox-operator"][..], 0)]
    {
        bed.add_user(user, groups).expect("the user is added");
        let output = bed.shell_as(user, "nixmoxctl exec picked id -un < /dev/null").expect("it runs");
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (code, if code == 0 { "root\n" } else { "" }),
            "{user}: {output}"
        );
        assert_eq!(output.stderr.contains("nixmox-operator"), code != 0, "{user}: {output}");
    }
    // Who ran something is written down; what, is not.
    let uid = bed.succeed("id -u bob").expect("a number");
    let journal = bed.journal(&["-u", "nixmox-agent", "--output=verbose"]).expect("the journal");
    let entry = "NIXMOX_METHOD=io.nixmox.Agent.Exec";
    assert!(journal.contains(entry) && journal.contains(&format!("NIXMOX_UID={uid}")), "{journal}");
    assert!(!journal.contains("id -un"), "{journal}");
}
