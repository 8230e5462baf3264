//! Host device nodes as text: `/dev/dri/renderD128` or `/dev/ttyUSB0:rw`.

use std::path::PathBuf;

use schemars::json_schema;

use crate::manifest::form::{Misfit, Text, schema};
use crate::manifest::value;
use crate::model::Device;

schema!(
    Device,
    json_schema!({
        "type": "string",
        "pattern": "^/dev/[^:]+(:[rwm]{1,3})?$",
        "examples": ["/dev/dri/renderD128", "/dev/ttyUSB0:rw"]
    })
);

impl Text for Device {
    const EXPECTED: &'static str = "a device node such as `\"/dev/dri/renderD128\"` or `\"/dev/ttyUSB0:rwm\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        let (path, access) = text.split_once(':').unwrap_or((text, "rw"));
        if !path.starts_with("/dev/") || path.split('/').skip(2).any(|part| matches!(part, "" | "." | "..")) {
            let misfit = Misfit::new(format!("`{path}` is not a path below /dev")).at(0..path.len());
            return Err(misfit.help("for example \"/dev/dri/renderD128\""));
        }
        value::carried(path)?;
        let part = text.len() - access.len().min(text.len())..text.len();
        let known = !access.is_empty() && access.chars().all(|c| "rwm".contains(c));
        let ordered: String = "rwm".chars().filter(|c| access.contains(*c)).collect();
        if !known || ordered.len() != access.len() {
            let misfit = Misfit::new(format!("`{access}` is not an access: some of `r`, `w` and `m`")).at(part);
            return Err(misfit.help("`r` reads, `w` writes, `m` makes the node; leave it out for `rw`"));
        }
        Ok(Self { path: PathBuf::from(path), access: ordered })
    }
}
