//! The words of the file for the model's choices.

use crate::manifest::form::word;
use crate::model::{Condition, CpuFallback, Engine, Kind, OnUnhealthy, PrivateUsers, RestartPolicy, Vendor};

word!(Condition {
    Started "started" "Its unit is active.",
    Healthy "healthy" "Its health check succeeds.",
    Completed "completed" "It is a job and ended with success.",
});

word!(Kind {
    Service "service" "Is to run until it is stopped.",
    Job "job" "Runs to its end; done when it exits with 0.",
});

word!(OnUnhealthy {
    Report "report" "It is reported.",
    Restart "restart" "It is restarted, with the back-off of `restart`.",
});

word!(PrivateUsers {
    No "no" "The guest's root is the host's root.",
    Pick "pick" "The guest has a free range of 65536 user IDs.",
});

word!(RestartPolicy {
    No "no" "Never.",
    OnFailure "on-failure" "When it ended with an error.",
    Always "always" "Whenever it ended.",
});

word!(Engine {
    Ollama "ollama" "Ollama.",
    LlamaServer "llama-server" "llama.cpp's `llama-server`, with one model or as a router of several.",
});

word!(CpuFallback {
    Allow "allow" "Nothing: `nixmoxctl offload` shows it.",
    Warn "warn" "An event tells of it, and it is loaded anew where that helps.",
    Refuse "refuse" "Beside that, the service counts as unhealthy.",
});

word!(Vendor {
    Nvidia "nvidia" "NVIDIA.",
    Amd "amd" "AMD.",
    Intel "intel" "Intel.",
});
