//! Loads of Ollama from 0.12.11 on up to before 0.30: what it logs is what it allocates.

use super::{C, Case, G};
use crate::offload::engine::Version;
use crate::offload::estimate::KvType;
use crate::offload::estimate::logs::shapes::{self as s, Recipe};

pub(super) const CASES: &[Case] = &[
    Case {
        model: "qwen3:8b Q4_K_M, CPU",
        shape: s::QWEN3_8B_LIBRARY,
        recipe: Recipe::Q4Km,
        version: Version(0, 13, 1),
        context: (4096, 1),
        total: 5.69,
        cache: 576.0,
        graph: (288.0, 0.0),
        repeating: (20.0 * 114_590_720.0 + 16.0 * 127_566_848.0) / (G * G * G),
        ..C
    },
    Case {
        model: "qwen3:32b Q4_K_M",
        shape: s::QWEN3_32B_LIBRARY,
        recipe: Recipe::Q4Km,
        version: Version(0, 13, 2),
        context: (16384, 1),
        flash_attention: true,
        free: &[31.0],
        total: 23.1,
        cache: 4.0 * G,
        ..C
    },
    Case {
        model: "qwen3-coder:30b, CPU",
        shape: s::QWEN3_30B,
        recipe: Recipe::Q8_0,
        version: Version(0, 16, 0),
        context: (16384, 1),
        flash_attention: true,
        cache: 1.5 * G,
        graph: (96.0, 0.0),
        ..C
    },
    Case {
        model: "llama3.2-vision:11b Q4_K_M",
        shape: s::MLLAMA_11B,
        recipe: Recipe::Q4Km,
        version: Version(0, 16, 0),
        context: (4096, 1),
        free: &[14.0],
        memory: &[10.8],
        total: 11.1,
        cache: 912.2,
        graph: (2.9 * G, 0.0),
        ..C
    },
    Case {
        model: "qwen3-coder:30b, CPU, 4k",
        shape: s::QWEN3_30B,
        recipe: Recipe::Q8_0,
        version: Version(0, 16, 0),
        context: (4096, 1),
        flash_attention: true,
        cache: 384.0,
        graph: (88.0, 0.0),
        ..C
    },
    Case {
        model: "glm-4.7-flash Q4_K_M, 24 layers",
        shape: s::GLM4_FLASH,
        recipe: Recipe::Q4Km,
        version: Version(0, 16, 0),
        context: (4096, 1),
        flash_attention: true,
        asked: Some(24),
        free: &[12.0],
        cache: 399.5,
        graph: (272.0, 0.0),
        ..C
    },
    Case {
        model: "glm4:9b Q4_0",
        shape: s::GLM4_9B,
        version: Version(0, 17, 0),
        context: (32768, 1),
        free: &[25.0],
        layers: &[41],
        memory: &[8.1],
        total: 8.1,
        cache: 1.25 * G,
        graph: (2.1 * G, 0.0),
        ..C
    },
    Case {
        model: "qwen3-coder-next, 20 layers",
        shape: s::QWEN3_NEXT,
        recipe: Recipe::Q4Km,
        version: Version(0, 20, 0),
        context: (32768, 1),
        batch: 1024,
        flash_attention: true,
        asked: Some(20),
        free: &[24.0],
        cache: 2.6 * G,
        graph: (884.1, 0.0),
        ..C
    },
    Case {
        model: "qwen3-coder-next, 20 layers, q8_0",
        shape: s::QWEN3_NEXT,
        recipe: Recipe::Q4Km,
        version: Version(0, 20, 0),
        context: (32768, 1),
        batch: 1024,
        kind: KvType::Q8_0,
        flash_attention: true,
        asked: Some(20),
        free: &[24.0],
        cache: 955.2 * 48.0 / 20.0,
        ..C
    },
    Case {
        model: "qwen2.5-coder:7b Q4_K_M",
        shape: s::QWEN2_7B,
        recipe: Recipe::Q4Km,
        version: Version(0, 23, 0),
        context: (32768, 1),
        free: &[10.7],
        layers: &[29],
        memory: &[7.6],
        total: 7.6,
        cache: 1.75 * G,
        graph: (1.84 * G, 0.0),
        ..C
    },
    Case {
        model: "gemma2:2b Q4_0, batch 256",
        shape: s::GEMMA2_2B,
        version: Version(0, 23, 0),
        context: (8192, 2),
        batch: 256,
        free: &[6.52],
        layers: &[27],
        memory: &[3.4],
        total: 3.4,
        cache: 1.625 * G,
        graph: (252.2, 0.0),
        ..C
    },
    // The log lacks what was free when layers were placed. Memory is what llama.cpp took with as many layers.
    Case {
        model: "qwq:32b Q4_K_M, q8_0",
        shape: s::QWEN2_32B,
        recipe: Recipe::Q4Km,
        version: Version(0, 23, 0),
        context: (8192, 1),
        kind: KvType::Q8_0,
        flash_attention: true,
        asked: Some(29),
        free: &[10.632],
        memory: &[9.31],
        total: 20.03,
        ..C
    },
];
