"""Times the shapes of wgpt's benches in PyTorch, on the same card: products, and training steps of nanogpt-char and gpt2.

usage: torch_steps.py OUT.jsonl [READY GO]    a line of JSON for each measurement

With READY and GO it first compiles the models, creates the file READY, and measures once the file GO exists: so it compiles while other
programs use the card, and measures alone. VISIT_QUICK=1 takes tiny shapes, on the CPU if there is no card, to test this program.
"""
import json
import os
import sys
import time

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "8")
import torch
import torch.nn as nn
import torch.nn.functional as F

QUICK = bool(os.environ.get("VISIT_QUICK"))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Vocabulary, context, width, heads, layers, dropout, batch. As its users do, PyTorch pads GPT-2's vocabulary of 50,257 to a multiple of 64.
SHAPES = {"tiny": (65, 32, 64, 2, 2, 0.0, 4)} if QUICK else {
    "nanogpt-char": (65, 256, 384, 6, 6, 0.2, 64),
    "gpt2": (50304, 1024, 768, 12, 12, 0.0, 8),
}
COMPILED = "bf16, compiled"
MODES = [COMPILED, "tf32", "f32", "bf16"]
# Rows, columns, inner: those of `wgpt bench`.
PRODUCTS = [(64, 64, 64)] if QUICK else [(4096, 4096, 4096), (8192, 3072, 768), (3072, 768, 8192)]


class Block(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        batch, context, width = x.shape
        split = lambda z: z.view(batch, context, self.heads, width // self.heads).transpose(1, 2)
        q, k, v = (split(z) for z in self.qkv(self.norm_1(x)).split(width, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        x = x + self.drop(self.proj(y.transpose(1, 2).reshape(batch, context, width)))
        return x + self.drop(self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh")))


class Gpt(nn.Module):
    def __init__(self, vocab, context, width, heads, layers, dropout):
        super().__init__()
        self.wte, self.wpe, self.drop = nn.Embedding(vocab, width), nn.Embedding(context, width), nn.Dropout(dropout)
        self.blocks, self.norm = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers)), nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.wte.weight
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, ids, targets):
        x = self.drop(self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device)))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def training(shape, mode):
    """A function that makes a step, and the tokens of a step."""
    vocab, context, width, heads, layers, dropout, batch = SHAPES[shape]
    torch.manual_seed(1)
    model = Gpt(vocab, context, width, heads, layers, dropout).to(DEVICE)
    net = torch.compile(model) if mode == COMPILED else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=DEVICE == "cuda")
    ids, targets = (torch.randint(min(vocab, 50257), (batch, context), device=DEVICE) for _ in range(2))

    def step():
        torch.backends.cuda.matmul.allow_tf32 = mode == "tf32"
        with torch.autocast(DEVICE, torch.bfloat16, enabled="bf16" in mode):
            loss = net(ids, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, batch * context


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(function, runs):
    """Of one call, in a run of several between two waits, after some to warm up."""
    for _ in range(3):
        function()
    wait()
    begun = time.perf_counter()
    for _ in range(runs):
        function()
    wait()
    return (time.perf_counter() - begun) / runs


def main(path, ready=None, go=None):
    with open(path, "a", buffering=1) as out:
        def say(**row):
            out.write(json.dumps(row) + "\n")

        def attempt(what, function):
            # One failure, such as a card without memory left, must not end the other measurements.
            try:
                say(**what, **function())
            except Exception as error:
                say(**what, error=repr(error)[:300])

        say(torch=torch.__version__, device=torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU")
        compiled = {}

        def compile_it(shape):
            compiled[shape] = training(shape, COMPILED)
            return {"seconds": round(seconds(compiled[shape][0], 1), 3)}

        for shape in SHAPES:
            attempt({"compiling": shape}, lambda: compile_it(shape))
        if ready:
            open(ready, "w").close()
            while not os.path.exists(go):
                time.sleep(0.1)

        def product(rows, cols, inner, dtype, tf32):
            torch.backends.cuda.matmul.allow_tf32 = tf32
            a, b = torch.randn(rows, inner, device=DEVICE, dtype=dtype), torch.randn(cols, inner, device=DEVICE, dtype=dtype)
            return {"tflops": round(2e-12 * rows * cols * inner / seconds(lambda: a @ b.t(), 10), 3)}

        for size in PRODUCTS:
            for name, dtype, tf32 in [("f32", torch.float32, False), ("tf32", torch.float32, True), ("f16", torch.float16, False)]:
                attempt({"product": "x".join(map(str, size)), "mode": name}, lambda: product(*size, dtype, tf32))

        def step_time(shape, mode):
            step, tokens = (compiled.pop(shape, None) if mode == COMPILED else None) or training(shape, mode)
            runs = sorted(seconds(step, 10) for _ in range(3))
            return {"ms": round(1e3 * runs[1], 3), "tokens_per_second": round(tokens / runs[1])}

        for shape in SHAPES:
            for mode in MODES:
                attempt({"training": shape, "mode": mode}, lambda: step_time(shape, mode))
                if DEVICE == "cuda":
                    torch.cuda.empty_cache()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
