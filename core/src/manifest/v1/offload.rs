//! What runs models in a service, and what is asked of it.

use std::borrow::Cow;

use schemars::json_schema;

use super::Time;
use crate::manifest::form::{Form, List, Misfit, Reader, Text, Value, schema, table, table_form, unsigned};
use crate::model::{CpuFallback, Engine, Offload as Model};

table! {
    /// What runs models in the service, and what is asked of it. The agent then holds it to its video memory: where others
    /// need some of that, it has models unloaded, or loaded with fewer layers on the GPU, before it stops the service, and
    /// loads them again when there is room. How much it may have is `gpu.vram`, which is needed, and who goes first
    /// `gpu.priority`. `nixmoxctl offload` shows the models and what was decided about them, and `nixmoxctl offload estimate` how
    /// much of a model fits. More is in [offload.md](offload.md).
    #[foreign(
        "models" => "write `keep`",
        "model" => "write `keep = [\"MODEL\"]`",
        "host" => "write `url`",
        "port" => "write `url = \"http://localhost:PORT\"`",
        "vram" => "write `gpu = { vram = ... }`",
        "vram_min" => "write `gpu = { vram_min = ... }`",
        "priority" => "write `gpu = { priority = ... }`",
        "keep_alive" => "write `idle_unload`",
        "ttl" => "write `idle_unload`",
        "num_ctx" => "write `context`",
        "context_length" => "write `context`",
        "num_gpu" => "the agent finds out how many layers fit; `nixmoxctl offload estimate` shows them",
    )]
    pub struct Offload {
        /// The program that runs models.
        #[key(Refused, Live, "engine = \"ollama\"")]
        pub engine: Engine,

        /// Where it is reached from inside the container: `http://localhost`, and `:PORT` where that is not 80. It is asked from inside the
        /// container's network, so nothing needs to be published for it. For `localhost` a loopback address, the name of the service or its
        /// `network.address` can stand; another machine cannot be asked.
        #[key(
            Means("`\"http://localhost:11434\"` of Ollama, `\"http://localhost:8080\"` of `llama-server`"),
            Live,
            "url = \"http://localhost:11434\""
        )]
        pub url: EngineUrl,

        /// Models that are kept loaded while there is room, by the names that the engine has for them. What is named first is given
        /// up last. Of a `llama-server` with a single model they say nothing: that one is loaded as long as it runs. Of Ollama,
        /// what is taken out of it is unloaded when nobody has asked for it for `idle_unload`, or for 5 min.
        #[key(Default("[]"), Live, "keep = [\"llama3.1:8b\", \"nomic-embed-text\"]")]
        pub keep: List<ModelName>,

        /// How long a model stays loaded that nobody asks, 1 s to 366 d. It goes into the guest's environment when it is started
        /// (`OLLAMA_KEEP_ALIVE`); what `environment` says of the same goes first. The agent unloads what the engine has not unloaded by
        /// itself a while after, where the engine tells of a model's use. Models in `keep` stay, and so does what a client has kept for good (`keep_alive` -1).
        #[key(Means("as long as the engine keeps it by itself, which is 5 min of Ollama"), NextStart, "idle_unload = \"30min\"")]
        pub idle_unload: Time,

        /// Tokens that a request may have, with its answer; 256 to 10 000 000. The memory for them is taken when a model is loaded.
        /// It goes into the guest's environment when it is started (`OLLAMA_CONTEXT_LENGTH`, `LLAMA_ARG_CTX_SIZE`); what
        /// `environment` says of the same goes first. With less memory a model may be loaded with a smaller context.
        #[key(Means("as many as the engine gives by itself"), NextStart, "context = 8192")]
        pub context: Context,

        /// How long a request under way may take to finish when the memory of its model is needed, at most 24 h. Where it takes longer,
        /// the service is stopped.
        #[key(Means("as long as it takes"), Live, "request_grace = \"2min\"")]
        pub request_grace: Time,

        /// What follows when a model that should be on the GPU is on the CPU, as a whole or in part, though there is room for it.
        /// With `"refuse"` models are not moved to the CPU to make room either: they are unloaded.
        #[key(Default("\"refuse\""), Live, "cpu_fallback = \"allow\"")]
        pub cpu_fallback: CpuFallback,
    }
}

table_form!(Offload, "a table such as `{ engine = \"ollama\" }`");

/// Where an engine is reached: `http://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineUrl(pub String);

/// A model, as the engine calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName(pub String);

/// Tokens of context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context(pub u32);

schema!(
    EngineUrl,
    json_schema!({
        "type": "string",
        "pattern": "^http://[^ /?#@]+$",
        "examples": ["http://localhost:11434"]
    })
);

impl Text for EngineUrl {
    const EXPECTED: &'static str = "a URL such as `\"http://localhost:11434\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        if text.starts_with("https://") {
            let misfit = Misfit::new("engines are not asked over TLS: the question does not leave the container");
            return Err(misfit.help("name the plain port with http://"));
        }
        let Some(rest) = text.strip_prefix("http://") else {
            let misfit = Misfit::new(format!("`{}` is not an http:// URL", text.escape_debug()));
            return Err(misfit.help("for example \"http://localhost:11434\""));
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let from = text.len() - rest.len();
        if authority.contains('@') {
            return Err(
                Misfit::new("engines are asked without a user name").help("leave out what is before the `@`")
            );
        }
        if authority.len() < rest.len() {
            let misfit = Misfit::new("the URL of an engine has no path").at(from + authority.len()..text.len());
            return Err(misfit.help(format!("write \"http://{authority}\"")));
        }
        match Model::url_fault(text) {
            Some(why) => Err(Misfit::new(why).help("for example \"http://localhost:11434\"")),
            None => Ok(Self(text.to_owned())),
        }
    }
}

schema!(
    ModelName,
    json_schema!({ "type": "string", "minLength": 1, "maxLength": Model::NAME_LENGTH_MAX, "examples": ["llama3.1:8b"] })
);

impl Text for ModelName {
    const EXPECTED: &'static str = "the name of a model such as `\"llama3.1:8b\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        match Model::name_fault(text) {
            Some(why) => Err(Misfit::new(why).help("a model has the name that the engine lists it by")),
            None => Ok(Self(text.to_owned())),
        }
    }
}

schema!(
    Context,
    json_schema!({ "type": "integer", "minimum": Model::CONTEXT.start(), "maximum": Model::CONTEXT.end() })
);

impl Form for Context {
    fn expected() -> Cow<'static, str> {
        format!("a number of tokens from {} to {}", Model::CONTEXT.start(), Model::CONTEXT.end()).into()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(number) = unsigned(value) else {
            reader.mismatch::<Self>(value);
            return None;
        };
        let tokens = number.ok().and_then(|number| u32::try_from(number).ok());
        let tokens = tokens.filter(|tokens| Model::CONTEXT.contains(tokens));
        if tokens.is_none() {
            let error = reader.error(&value.span(), format!("expected {}", Self::expected()));
            reader.report(error.label("out of range"));
        }
        tokens.map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port_and_nothing_else() {
        for url in [
            "http://localhost",
            "http://localhost:11434",
            "http://10.0.0.1:80",
            "http://[::1]:8080",
            "http://a_b.c-d",
        ] {
            assert_eq!(EngineUrl::from_text(url), Ok(EngineUrl(url.to_owned())), "{url}");
        }
        for url in [
            "",
            "localhost:11434",
            "https://localhost",
            "http://",
            "http://:80",
            "http://localhost/",
            "http://localhost/v1",
            "http://localhost?x",
            "http://me@localhost",
            "http://localhost:0",
            "http://localhost:65536",
            "http://localhost:",
            "http://localhost:+80",
            "http://[::1",
            "http://[local]",
            "http://a b",
            "http://a\tb",
            "http://ä",
        ] {
            assert!(EngineUrl::from_text(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_path_is_told_at_its_place_with_what_to_write() {
        let misfit = EngineUrl::from_text("http://localhost:11434/v1").unwrap_err();
        assert_eq!((misfit.part, misfit.help.as_deref()), (Some(22..25), Some("write \"http://localhost:11434\"")));
    }
}
