//! Resource limits.

use super::Cpus;
use crate::manifest::form::{Map, table, table_form};
use crate::model::{Bytes, CpuQuota, Weight};

table! {
    /// Resource limits under systemd.resource-control(5)'s names, in lower case with underscores. All take effect
    /// at once, without a restart.
    #[foreign(
        "memory" => "write `memory_max`",
        "mem_limit" => "write `memory_max`",
        "cpus" => "write `cpu_quota = \"150%\"` for one and a half CPUs, `allowed_cpus` for certain ones",
        "cpuset" => "write `allowed_cpus`",
        "pids" => "write `tasks_max`",
        "pids_limit" => "write `tasks_max`",
        "swap_max" => "write `memory_swap_max`",
    )]
    pub struct Limits {
        /// Memory that is never reclaimed from it (`MemoryMin=`).
        #[key(Means("none"), Live, "limits = { memory_min = \"256M\" }")]
        pub memory_min: Bytes,

        /// Memory that is reclaimed from it only when others have nothing unprotected left (`MemoryLow=`).
        #[key(Means("none"), Live, "limits = { memory_low = \"512M\" }")]
        pub memory_low: Bytes,

        /// Memory above which it is slowed down and reclaimed from (`MemoryHigh=`); at least 1 MiB. What holds more at its start, with
        /// nothing that could be reclaimed, takes minutes for it.
        #[key(Means("no limit"), Live, "limits = { memory_high = \"1.5G\" }")]
        pub memory_high: Bytes,

        /// Memory above which its processes are killed (`MemoryMax=`); at least 1 MiB.
        #[key(Means("no limit"), Live, "limits = { memory_max = \"2G\" }")]
        pub memory_max: Bytes,

        /// Swap space it may use (`MemorySwapMax=`); 0 is none.
        #[key(Means("no limit"), Live, "limits = { memory_swap_max = 0 }")]
        pub memory_swap_max: Bytes,

        /// Compressed memory it may keep in zswap (`MemoryZSwapMax=`); 0 is none.
        #[key(Means("no limit"), Live, "limits = { memory_zswap_max = \"256M\" }")]
        pub memory_zswap_max: Bytes,

        /// CPU time (`CPUQuota=`), at least 1 %; 100 % is one CPU.
        #[key(Means("no limit"), Live, "limits = { cpu_quota = \"150%\" }")]
        pub cpu_quota: CpuQuota,

        /// The share of CPU time when there is not enough for all (`CPUWeight=`).
        #[key(Means("100, the kernel's"), Live, "limits = { cpu_weight = 200 }")]
        pub cpu_weight: Weight,

        /// The CPUs it may run on (`AllowedCPUs=`), 0 to 8191.
        #[key(Means("all"), Live, "limits = { allowed_cpus = \"0-3,8\" }")]
        pub allowed_cpus: Cpus,

        /// Number of tasks: processes and threads (`TasksMax=`); at least 1, and a guest that boots systemd needs
        /// some 50.
        #[key(Means("systemd's default"), Live, "limits = { tasks_max = 1024 }")]
        pub tasks_max: u64,

        /// The share of disk time when there is not enough for all (`IOWeight=`).
        #[key(Means("100, the kernel's"), Live, "limits = { io_weight = 50 }")]
        pub io_weight: Weight,

        /// Bytes per second read from a disk (`IOReadBandwidthMax=`), at least 1, by an absolute path: a block
        /// device, or a file on it.
        #[key(Means("no limit"), Live, "limits = { io_read_bandwidth_max = { \"/dev/sda\" = \"50M\" } }")]
        pub io_read_bandwidth_max: Map<Bytes>,

        /// Bytes per second written to a disk (`IOWriteBandwidthMax=`), as `io_read_bandwidth_max`.
        #[key(Means("no limit"), Live, "limits = { io_write_bandwidth_max = { \"/srv\" = \"20M\" } }")]
        pub io_write_bandwidth_max: Map<Bytes>,
    }
}

table_form!(Limits, "a table such as `{ memory_max = \"2G\" }`");
