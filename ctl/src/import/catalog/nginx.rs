//! `nginx`: the server blocks stay where they are on the host, and are included.

use crate::import::compose::Probe;
use crate::import::draft::Draft;
use crate::import::nix::Nix;

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    let port = if draft.image().name == "nginx" { 80 } else { 8080 };
    draft.set("services.nginx.enable", true);
    let has_blocks = draft.mounted().any(|target| target.starts_with("/etc/nginx/conf.d"));
    if has_blocks {
        draft.set(
            "services.nginx.appendHttpConfig",
            Nix::Script(vec!["include /etc/nginx/conf.d/*.conf;".to_owned()]),
        );
    } else {
        let host = |option: &str| format!("services.nginx.virtualHosts.localhost.{option}");
        draft.set(&host("default"), true);
        draft.set(&host("root"), "/usr/share/nginx/html");
        if port != 80 {
            let mut listen = Nix::Set(Vec::new());
            listen.set(&["addr"], "0.0.0.0".into());
            listen.set(&["port"], port.into());
            draft.set(&host("listen"), Nix::List(vec![listen]));
        }
    }
    draft.keeps("/etc/nginx/conf.d", "/etc/nginx/conf.d");
    draft.keeps("/usr/share/nginx/html", "/usr/share/nginx/html");
    draft.has_not(
        "/etc/nginx/nginx.conf",
        "the module writes its own nginx.conf",
        "move its server blocks into files of /etc/nginx/conf.d, which are included",
    );
    draft.has_not(
        "/etc/nginx/templates",
        "the image makes files of /etc/nginx/conf.d of them when it starts",
        "put the finished files into a folder mounted at /etc/nginx/conf.d",
    );
    draft.drops(&["NGINX_ENVSUBST_OUTPUT_DIR", "NGINX_ENTRYPOINT_QUIET_LOGS"]);
    draft.listens(port);
    draft.probe = Some(Probe::Tcp(port));
}
