//! Shares of a GPU.

use std::borrow::Cow;

use schemars::json_schema;
use toml::de::DeValue;

use crate::manifest::form::{Form, List, Misfit, Reader, Text, Value, schema, table, table_form, unsigned};
use crate::model::{Bytes, GpuId, InvalidGpuId, Vendor};

table! {
    /// The service's share of the GPUs: which it may use, and how much video memory it claims. It is given the device
    /// nodes of these GPUs and no others, and the host's driver libraries, which match the loaded module: a guest needs no
    /// driver of its own. Several services may have the same GPU. `nixmoxctl gpu` shows who has what, `nixmoxctl gpu fit`
    /// what would fit, and `nixmoxctl gpu doctor` what is wrong.
    pub struct Gpu {
        /// Which GPUs: all of them; this many, whichever have room; or those that are named. Video memory is claimed of each in equal
        /// parts, so of several GPUs no process may rely on having all of `vram` on one. NVIDIA's are named by the
        /// UUID that `nvidia-smi -L` shows: `GPU-...`, or `MIG-...` of an instance of one that is cut into instances, which
        /// is then not given as a whole. AMD's and Intel's are named by their PCI address, such as `0000:03:00.0`. Numbers
        /// of the vendor's tools name none, since they can change with a reboot. With `private_users = "pick"` a change is
        /// a restart.
        #[key(Default("1"), Live, "devices = [\"GPU-5a6c0a2e-0000-0000-0000-000000000000\"]")]
        pub devices: GpuDevices,

        /// Whose GPUs, on a machine with those of several vendors.
        #[key(Means("the only vendor that is there"), Restart, "vendor = \"nvidia\"")]
        pub vendor: Vendor,

        /// Video memory that it wants, over all of its GPUs together, the same of each. It is a claim in a ledger, by which the agent decides
        /// who starts; no kernel limit holds a process to it. A service starts when its claim fits beside what others were
        /// promised (or use, where that is more), what the desktop and other programs of the host use, what the driver
        /// keeps, and some headroom; until then it waits. One that uses more than it was promised is told of by an event.
        /// Of a GPU that shares the machine's memory no ledger is kept.
        #[key(Means("no claim"), Live, "vram = \"10G\"")]
        pub vram: Bytes,

        /// Video memory with which it can do: where `vram` is not to be had, it starts with what there is, and waits only
        /// below this. Not more than `vram`.
        #[key(Means("as `vram`"), Live, "vram_min = \"4G\"")]
        pub vram_min: Bytes,

        /// Who goes first when there is not enough, 0 to 100; higher wins. Where that makes room, services of a lower
        /// priority are stopped for it, and wait.
        #[key(Default("50"), Live, "priority = 80")]
        pub priority: Priority,
    }
}

table_form!(Gpu, "a table such as `{ vram = \"10G\", priority = 80 }`");

/// Which GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuDevices {
    /// All of them.
    All,
    /// This many, at least 1.
    Count(u32),
    /// Those that are named.
    Ids(List<GpuId>),
}

/// A priority from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(pub u8);

schema!(Priority, json_schema!({ "type": "integer", "minimum": 0, "maximum": 100 }));

impl Form for Priority {
    fn expected() -> Cow<'static, str> {
        "a priority from 0 to 100".into()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match unsigned(value).map(|number| number.ok().and_then(|number| u8::try_from(number).ok())) {
            None => {
                reader.mismatch::<Self>(value);
                None
            }
            Some(Some(priority @ 0..=100)) => Some(Self(priority)),
            Some(_) => {
                let error = reader.error(&value.span(), format!("expected {}", Self::expected()));
                reader.report(error.label("out of range"));
                None
            }
        }
    }
}

schema!(
    GpuDevices,
    json_schema!({
        "anyOf": [
            { "type": "string", "enum": ["all"] },
            { "type": "integer", "minimum": 1 },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 }
        ]
    })
);

schema!(
    GpuId,
    json_schema!({
        "type": "string",
        "pattern": "^[A-Za-z0-9:._/-]{1,80}$",
        "examples": ["GPU-5a6c0a2e-0000-0000-0000-000000000000", "0000:03:00.0"]
    })
);

impl Text for GpuId {
    const EXPECTED: &'static str = "the UUID of a GPU, or its PCI address";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        text.parse().map_err(|error: InvalidGpuId| {
            Misfit::new(format!("`{}` names no GPU", text.escape_debug())).help(error.to_string())
        })
    }
}

impl Form for GpuDevices {
    fn expected() -> Cow<'static, str> {
        "`\"all\"`, a number of GPUs, or a list of UUIDs or PCI addresses".into()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let read = match value.get_ref() {
            DeValue::String(text) if text.as_ref() == "all" => Some(Self::All),
            DeValue::Integer(_) => {
                let count = unsigned(value).and_then(Result::ok).and_then(|count| u32::try_from(count).ok());
                count.filter(|count| *count > 0).map(Self::Count)
            }
            DeValue::Array(uuids) if !uuids.is_empty() => return List::read(value, reader).map(Self::Ids),
            DeValue::String(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        if read.is_none() {
            let error = reader.error(&value.span(), format!("expected {}", Self::expected()));
            reader.report(error.help("a service without a GPU leaves the table out"));
        }
        read
    }
}
