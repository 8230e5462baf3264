use crate::machine::{GIB, Machine};

#[test]
fn trial() {
    let machine = Machine::boot("offload-trial", "");
    machine.up(&[("ollama", "environment = { OLLAMA_CONTEXT_LENGTH = \"2048\" }\ngpu = { devices = [\"GPU-0\"], vram = \"11G\" }")]);
    machine.is("ollama", "healthy");
    println!("{:?}", machine.ask("GET", "/api/version", ""));
    println!("{:?}", machine.ask("GET", "/test/environment", ""));
    for model in ["big", "mid", "tiny"] {
        println!("{:?}", machine.ask("POST", "/api/generate", &format!("{{\"model\":\"{model}\"}}")));
    }
    println!("{:?}", machine.ask("GET", "/test/runners", ""));
    println!("{}\n{}", machine.used(), machine.says("gpu"));
    println!("{}", machine.all());
    machine.wait("used", || machine.used() > 7 * GIB);
    assert!(machine.ctl("stop ollama").success());
    machine.wait("free", || machine.used() == 0);
    panic!("done");
}
