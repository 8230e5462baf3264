//! `nixmoxctl exec` and `shell` without a terminal.

use crate::house::{BOOTED, LIMIT, STATIC, boot, is, refuses, shell};

#[test]
fn a_command_runs_in_a_container_as_it_would_here() {
    let bed = boot("exec");
    for guest in BOOTED {
        is(&bed, &format!("nixmoxctl exec {guest} -- true"), 0, "", "");
        is(&bed, &format!("nixmoxctl exec {guest} sh -c 'exit 7'"), 7, "", "");
        // Numbers that systemd has for its own failures are the command's when it says them.
        is(&bed, &format!("nixmoxctl exec {guest} sh -c 'exit 203'"), 203, "", "");
        is(&bed, &format!("nixmoxctl exec {guest} sh -c 'kill -TERM $$'"), 143, "", "");
        is(&bed, &format!("nixmoxctl exec {guest} sh -c 'kill -KILL $$'"), 137, "", "");
        is(&bed, &format!("nixmoxctl exec {guest} sh -c 'echo out; echo err >&2; exit 3'"), 3, "out\n", "err\n");
        is(&bed, &format!("echo in | nixmoxctl exec {guest} tr a-z A-Z"), 0, "IN\n", "");
        is(&bed, &format!("nixmoxctl exec {guest} cat < /dev/null"), 0, "", "");
        is(
            &bed,
            &format!("nixmoxctl exec {guest} -- printf '%s|' a 'b c' '$HOME' '%i' ''"),
            0,
            "a|b c|$HOME|%i||",
            "",
        );
        is(&bed, &format!("nixmoxctl exec {guest} hostname"), 0, &format!("{guest}\n"), "");
        // Who, where, with what.
        is(
            &bed,
            &format!("nixmoxctl exec {guest} sh -c 'id -un; pwd; echo $HOME $USER'"),
            0,
            "root\n/\n/root root\n",
            "",
        );
        let line = format!(
            "nixmoxctl exec -u nobody -w /usr/bin -e A='b c' -e E= {guest} -- sh -c 'id -un; pwd; echo $A$E; ls ./env'"
        );
        is(&bed, &line, 0, "nobody\n/usr/bin\nb c\n./env\n", "");
        is(&bed, &format!("nixmoxctl exec -u 65534 {guest} id -u"), 0, "65534\n", "");
        is(
            &bed,
            &format!("HERE=there nixmoxctl exec -e HERE -e NOT_SET {guest} -- sh -c 'echo $HERE${{NOT_SET-none}}'"),
            0,
            "therenone\n",
            "",
        );
        is(&bed, &format!("nixmoxctl exec -u nobody {guest} sh -c 'echo said > /dev/stderr'"), 0, "", "said\n");
        is(&bed, &format!("nixmoxctl exec -w /usr/bin {guest} ./basename a/b"), 0, "b\n", "");
        // A shell, fed with a script.
        is(
            &bed,
            &format!("printf 'shopt -q login_shell && echo login\npwd; exit 5' | nixmoxctl shell {guest}"),
            5,
            "login\n/root\n",
            "",
        );
        is(&bed, &format!("nixmoxctl shell {guest} -- sh -c 'echo $0 $LOGNAME'"), 0, "sh root\n", "");
        // What cannot be run.
        refuses(&bed, &format!("nixmoxctl exec {guest} nonesuch"), 127, &["there is no program `nonesuch`", "try"]);
        refuses(&bed, &format!("nixmoxctl exec {guest} /no/such"), 127, &["there is no program `/no/such`"]);
        refuses(&bed, &format!("nixmoxctl exec {guest} /etc/passwd"), 126, &["`/etc/passwd` cannot be executed"]);
        refuses(&bed, &format!("nixmoxctl exec -u olga {guest} id"), 126, &["there is no user `olga`"]);
        refuses(&bed, &format!("nixmoxctl exec -w /no/such {guest} id"), 126, &["cannot work in /no/such"]);
        refuses(&bed, &format!("nixmoxctl exec -w no/such {guest} id"), 1, &["is not an absolute path"]);
        // A reader that leaves ends it, as in any pipe.
        is(&bed, &format!("nixmoxctl exec {guest} yes | head -n 1"), 0, "y\n", "");
        let none = format!("nixmoxctl exec {guest} systemctl list-units --no-legend --plain 'nixmox-exec-*'");
        bed.wait_until(&format!("test $({none} | wc -l) = 1"), LIMIT).expect("nothing is left but that");
        is(&bed, &format!("nixmoxctl exec {guest} systemctl is-system-running"), 0, "running\n", "");
    }
    // Fifty megabytes there and back, unchanged.
    let script = "head -c 50000000 /dev/urandom | tee >(sha256sum > /root/sent) | nixmoxctl exec picked cat | sha256sum > /root/back";
    is(&bed, &format!("{script} && cmp /root/sent /root/back"), 0, "", "");
    // Where nothing can run.
    refuses(&bed, &format!("nixmoxctl exec {STATIC} true"), 1, &["no systemd", "try"]);
    refuses(&bed, "nixmoxctl exec nonesuch true", 1, &["there is no service `nonesuch`"]);
    shell(&bed, "cd /srv/guests && nixmoxctl stop plain");
    refuses(&bed, "nixmoxctl exec plain true", 1, &["`plain` does not run", "nixmoxctl why plain"]);
}

#[test]
fn what_a_command_is_given_in_its_environment_no_other_user_sees() {
    let bed = boot("environment");
    let secret = "secret-of-the-operator-77d1";
    for guest in BOOTED {
        // Every sign that means something to a shell or to systemd.
        let value = format!("{secret} $HOME `id` \"a\" \\ %i #;' end");
        bed.write_file("/root/value", &value, 0o600).expect("it is written");
        // One that waits until somebody else has looked around; its environment is its own user's.
        let script = format!(
            "KEY=$(cat /root/value) timeout 120 nixmoxctl exec -e KEY -e TERM=mine {guest} -- \
                 sh -c 'printf %s \"$KEY\"; touch /run/started; until test -e /run/seen; do sleep 0.02; done' \
                 < /dev/null > /root/out & command=$!
             timeout 120 nixmoxctl exec {guest} sh -c 'until test -e /run/started; do sleep 0.02; done' < /dev/null
             timeout 120 nixmoxctl exec -u nobody {guest} sh -c '
                 systemctl show \"nixmox-exec-*\"; cat /run/systemd/transient/nixmox-exec-*; ls -l /run/*.env' < /dev/null > /root/seen 2>&1
             timeout 120 nixmoxctl exec {guest} touch /run/seen < /dev/null
             wait $command"
        );
        is(&bed, &script, 0, "", "");
        assert_eq!(bed.succeed("cat /root/out").expect("it wrote"), value, "{guest}");
        let seen = bed.succeed("cat /root/seen").expect("somebody looked");
        assert!(seen.contains("EnvironmentFiles=/run/nixmox-exec-"), "it looked at the right units: {seen}");
        assert!(seen.contains("ExecStart"), "and into their files: {seen}");
        assert!(!seen.contains(secret), "{guest}: {seen}");
        assert!(seen.contains("cannot access '/run/*.env'"), "the file is gone: {seen}");
        is(
            &bed,
            &format!(
                "nixmoxctl exec {guest} sh -c 'rm /run/started /run/seen; ls /run/*.env | wc -l' 2> /dev/null"
            ),
            0,
            "0\n",
            "",
        );
    }
}
