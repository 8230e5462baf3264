//! `nixmoxctl cp`, both ways, with guests that mean well and with others.

use nixmox_testbed::Testbed;

use crate::house::{BOOTED, STATIC, boot, is, refuses, shell};
use crate::person::Person;

/// Everything below a folder: kind, mode, owners, time, size of files, where links lead.
const LIST: &str = r#"find -printf "%P %y %m %U %G %Ts %l\n" | sort"#;

/// Runs a script on the host that must succeed.
fn host(bed: &Testbed, script: &str) -> String {
    bed.succeed(script).expect("it succeeds")
}

/// Runs a script in a guest that must succeed.
fn guest(bed: &Testbed, name: &str, script: &str) -> String {
    bed.write_file("/root/script", script, 0o644).expect("it is written");
    host(bed, &format!("nixmoxctl exec -T {name} sh -e < /root/script"))
}

#[test]
fn a_copy_keeps_what_it_copies_and_goes_where_cp_would_put_it() {
    let bed = boot("copy");
    for name in BOOTED {
        guest(
            &bed,
            name,
            "mkdir -p /data/a/empty; cd /data; echo one > a/one; head -c 3000000 /dev/urandom > a/large; chmod 640 a/one; \
             chown 33:65534 a/one; chown nobody a/empty; chmod 2750 a/empty; ln -s ../../nowhere a/link; chown -h 33 a/link; \
             touch -d 2001-02-03T04:05:06 a/one a/empty a/large a; mkdir folder",
        );
        let there = guest(&bed, name, &format!("cd /data/a; {LIST}; sha256sum large"));
        host(&bed, "rm -rf /root/copy; mkdir /root/copy");
        is(&bed, &format!("cd /root/copy && nixmoxctl cp {name}:/data/a ."), 0, "", "");
        let here = host(&bed, &format!("cd /root/copy/a; {LIST}; sha256sum large"));
        // What would give rights here stays behind.
        assert_eq!(here, there.replace(" 2750 ", " 750 "), "{name}");
        // And back, by another name.
        is(&bed, &format!("nixmoxctl cp /root/copy/a {name}:/data/back"), 0, "", "");
        assert_eq!(guest(&bed, name, &format!("cd /data/back; {LIST}; sha256sum large")), here, "{name}");
        // Where it goes.
        let copy = |arguments: &str| is(&bed, &format!("cd /root/copy && nixmoxctl cp {arguments}"), 0, "", "");
        copy(&format!("{name}:/data/a/one renamed"));
        copy(&format!("{name}:data/a/one a/empty"));
        copy(&format!("{name}:/data/a/. content"));
        copy(&format!("{name}:/data/a content"));
        copy(&format!("{name}:/data/a/link link"));
        let found = host(&bed, "cd /root/copy; cat renamed a/empty/one; ls content content/a; readlink link");
        assert_eq!(
            found,
            "one\none\ncontent:\na\nempty\nlarge\nlink\none\n\ncontent/a:\nempty\nlarge\nlink\none\n../../nowhere"
        );
        copy(&format!("a/one {name}:/data/folder"));
        copy(&format!("a/one {name}:/data/folder/other"));
        copy(&format!("a/. {name}:/data/folder/"));
        copy(&format!("a {name}:/data/folder/"));
        let found = guest(&bed, name, "cd /data/folder; ls; ls a");
        assert_eq!(found, "a\nempty\nlarge\nlink\none\nother\nempty\nlarge\nlink\none");
        // A link that is named is a link, unless it is to be followed.
        guest(&bed, name, "ln -sf /data/a/one /data/followed");
        copy(&format!("-L {name}:/data/followed followed"));
        assert_eq!(host(&bed, "cat /root/copy/followed"), "one");
        // Other programs on the other end.
        is(&bed, &format!("nixmoxctl cp {name}:/data/a/one - | tar -xO"), 0, "one\n", "");
        is(
            &bed,
            &format!(
                "tar -C /root/copy -c a/one | nixmoxctl cp - {name}:/tmp && nixmoxctl exec -T {name} cat /tmp/a/one"
            ),
            0,
            "one\n",
            "",
        );
        let json = host(
            &bed,
            &format!("nixmoxctl cp --json {name}:/data/a/one /root/copy/one | jq -c '[.objects, .bytes]'"),
        );
        assert_eq!(json, "[1,4]");
    }
    // What cannot be.
    refuses(&bed, "nixmoxctl cp plain:/no/such /root", 1, &["/no/such: No such file"]);
    refuses(&bed, "nixmoxctl cp plain:/data/a /root/no/such", 1, &["cannot write to /root/no"]);
    refuses(&bed, "nixmoxctl cp plain:/data/a/one /root/no/", 1, &["cannot copy into /root/no"]);
    refuses(
        &bed,
        "nixmoxctl cp plain:/data/a /root/copy/renamed",
        1,
        &["cannot copy a folder to /root/copy/renamed"],
    );
    refuses(&bed, "nixmoxctl cp /root/copy/a plain:/data/a/one", 1, &["a folder cannot take the place of a file"]);
    refuses(&bed, "nixmoxctl cp /root/copy/a/one plain:/data/no/such", 1, &["/data/no: No such file"]);
    refuses(&bed, "nixmoxctl cp /root/none plain:/data", 1, &["cannot read /root/none"]);
    refuses(&bed, "nixmoxctl cp /root/copy /root/other", 2, &["one side of a copy is in a container"]);
    refuses(
        &bed,
        "echo no tar | nixmoxctl cp - plain:/data",
        1,
        &["the container's side: what arrives is not whole"],
    );
    refuses(&bed, "nixmoxctl cp nonesuch:/etc .", 1, &["there is no service `nonesuch`"]);
    let mut person = Person::runs(&bed, "nixmoxctl cp plain:/data/a/one -");
    person.sees("a tar is not written to a terminal");
    assert_eq!(person.ends(), 2);
    // It needs no systemd in there, and a container that runs.
    is(
        &bed,
        &format!("nixmoxctl cp /root/copy/a/one {STATIC}:/one && nixmoxctl cp {STATIC}:/one - | tar -xO"),
        0,
        "one\n",
        "",
    );
    shell(&bed, "cd /srv/guests && nixmoxctl stop plain");
    refuses(&bed, "nixmoxctl cp plain:/etc /root", 1, &["`plain` does not run"]);
}

#[test]
fn an_operator_copies_with_the_rights_of_an_operator_here_and_of_root_there() {
    let bed = boot("copier");
    bed.add_user("bob", &["nixmox-operator"]).expect("the user is added");
    bed.add_user("anna", &["nixmox"]).expect("the user is added");
    let run = |user: &str, script: &str| bed.shell_as(user, script).expect("it runs");
    let uid = host(&bed, "id -u bob");
    host(&bed, "install -d -o bob /srv/bob; echo secret > /srv/secret; chmod 600 /srv/secret");
    guest(
        &bed,
        "picked",
        "mkdir -p /data; echo root > /data/of-root; chmod 600 /data/of-root; cp /bin/true /data/suid; chmod 4755 /data/suid",
    );
    let out = run(
        "bob",
        "cd /srv/bob && nixmoxctl cp picked:/data . && cat data/of-root && stat -c '%u %a' data/of-root data/suid",
    );
    assert_eq!((out.code, out.stdout), (0, format!("root\n{uid} 600\n{uid} 755\n")), "{}", out.stderr);
    let refused = run("bob", "nixmoxctl cp /srv/secret picked:/tmp");
    assert!(refused.code == 1 && refused.stderr.contains("Permission denied"), "{refused}");
    let refused = run("bob", "nixmoxctl cp picked:/data/of-root /srv/of-root");
    assert!(refused.code == 1 && refused.stderr.contains("Permission denied"), "{refused}");
    for line in ["nixmoxctl cp picked:/data/of-root /srv/bob", "nixmoxctl cp /etc/hostname picked:/tmp"] {
        assert_eq!(run("anna", line).code, 5, "{line}");
    }
}

#[test]
fn a_hostile_guest_leads_a_copy_nowhere() {
    let bed = boot("hostile");
    host(&bed, "mkdir -p /srv/outside /root/copy; echo HOST-SECRET > /srv/outside/secret; echo mine > /root/mine");
    for name in BOOTED {
        let before = host(&bed, "cd /srv/outside && find -printf '%p %T@ %m %U\\n' | sort; cat secret");
        // Links on the way to the path: they lead somewhere in the guest, where nothing is.
        guest(
            &bed,
            name,
            "mkdir -p /trap/tree; cd /trap; ln -s /srv/outside away; ln -s ../../../../../../srv/outside up; ln -s /proc/1/root/srv/outside magic",
        );
        for link in ["away", "up", "magic"] {
            refuses(&bed, &format!("nixmoxctl cp {name}:/trap/{link}/secret /root/copy/stolen"), 1, &["/secret: "]);
            refuses(&bed, &format!("nixmoxctl cp /root/mine {name}:/trap/{link}/mine"), 1, &["error"]);
        }
        refuses(
            &bed,
            &format!("nixmoxctl cp {name}:/../../srv/outside/secret /root/copy/stolen"),
            1,
            &["No such file"],
        );
        // Links, pipes, devices and names in a tree: kept as links, or named and left out.
        guest(
            &bed,
            name,
            "cd /trap/tree; ln -s /srv/outside/secret link; mkfifo fifo; mknod null c 1 3 2>/dev/null || mkfifo null; ln -s /srv/outside folder; touch \"$(printf 'esc\\033[2J')\"",
        );
        let output = shell(&bed, &format!("cd /root/copy && timeout 150 nixmoxctl cp {name}:/trap/tree {name}"));
        assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output}");
        assert!(output.stderr.contains("skipped tree/fifo: it is a FIFO"), "{output}");
        assert!(output.stderr.contains("skipped tree/null: it is a "), "{output}");
        assert_eq!(host(&bed, &format!("readlink /root/copy/{name}/link")), "/srv/outside/secret");
        // Into a tree with such links: they are replaced, or nothing goes through them.
        host(
            &bed,
            "rm -rf /root/tree; mkdir -p /root/tree/folder; echo mine > /root/tree/folder/secret; echo mine > /root/tree/link; echo mine > /root/tree/fifo",
        );
        refuses(
            &bed,
            &format!("timeout 150 nixmoxctl cp /root/tree/. {name}:/trap/tree"),
            1,
            &["skipped ./folder: something that is no folder is there", "skipped ./fifo: a FIFO is there"],
        );
        assert_eq!(
            guest(&bed, name, "cd /trap/tree; cat link; stat -c %F fifo folder"),
            "mine\nfifo\nsymbolic link"
        );
        // A guest that swaps a folder for a link while it is copied, both ways, again and again.
        guest(
            &bed,
            name,
            "mkdir -p /race/d; for i in $(seq 20); do echo public > /race/d/f$i; echo public > /race/d/secret; done",
        );
        guest(
            &bed,
            name,
            "systemd-run -q --unit=swap sh -c 'cd /race; while :; do mv d aside; ln -s /srv/outside d; rm d; mv aside d; done 2>/dev/null'",
        );
        host(
            &bed,
            "rm -rf /root/tree; mkdir -p /root/tree/d; for i in $(seq 20); do echo mine > /root/tree/d/f$i; done; cp /root/mine /root/tree/d/secret",
        );
        let script = format!(
            "for round in $(seq 15); do rm -rf /root/copy/race; nixmoxctl cp {name}:/race /root/copy/race; \
             nixmoxctl cp /root/tree/. {name}:/race; nixmoxctl cp {name}:/race/d /root/copy/race; done > /root/said 2>&1; ! grep -r HOST-SECRET /root/copy"
        );
        is(&bed, &script, 0, "", "");
        guest(&bed, name, "systemctl stop swap");
        assert_eq!(
            host(&bed, "cd /srv/outside && find -printf '%p %T@ %m %U\\n' | sort; cat secret"),
            before,
            "{name}"
        );
        // Nothing of it is left.
        bed.wait_until("test $(pgrep -cf '[g]uest-session') = 0", crate::house::LIMIT)
            .expect("every child is reaped");
    }
}
