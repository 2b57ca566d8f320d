#!/usr/bin/env bash
# What a machine with a GPU is asked, in one script that builds nothing: whether CUDA works, whether every operation and the
# whole loop agree with the processor, and how fast it is beside PyTorch, transformers and TRL on the same GPU in the same run.
#
#   cargo build --release                                          # needs no CUDA; copy target/release/finegrain
#   cargo test --release -p finegrain --lib --no-run               # prints the test binary's path; copy it too
#   benches/gpu.sh --finegrain BINARY --tests BINARY [--out DIR] [--part NAME[,NAME]] [--tiny]
#
# Another processor than this one's: build both with RUSTFLAGS="-C target-cpu=x86-64-v3".
#
# Parts, the most important first, each with a time limit and each going on after a failure:
#   doctor      driver, libraries, kernels; NVIDIA's own word on the GPU
#   tests       every operation and model against the processor's, in f32 and bf16; what fails runs again alone
#   bits        a small run twice: the same weights, bit for bit
#   sandbox     the README's comparison on the GPU
#   speed       training and generation at SmolLM2's shape beside PyTorch and transformers
#   large       training, generation and PPO with batches that fill the GPU, and where their time goes
#   llama7b     a PPO iteration of four roles on one frozen LLaMA-7B-shaped model, and where its time goes
#   ppo         a PPO iteration at SmolLM2's shape beside TRL
#   profile     where the time of training, generation and PPO at SmolLM2's shape goes
#   sanitizer   NVIDIA's compute-sanitizer over the tests of a few operations
#   smollm2     three variants by LoRA on FINEGRAIN_SMOLLM2 (a .gguf or a folder) and FINEGRAIN_EDIT_PAIRS (JSONL with the
#               keys id, prompt, original and edited)
# tests, bits and sandbox are not timed against anything and run side by side; the others run alone. speed and ppo need a
# Python with benches/peers/requirements.txt in FINEGRAIN_PYTHON. --tiny makes everything so small that the emulator of
# tests/emulator gets through; its times mean nothing. Results and logs lie in DIR (gpu-results where absent), a table in
# DIR/table.md, written again after every part.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
finegrain= tests= out=gpu-results tiny=
parts=doctor,tests,bits,sandbox,speed,large,llama7b,ppo,profile,sanitizer,smollm2
while [[ $# -gt 0 ]]; do
  case $1 in
    --finegrain) finegrain=$(realpath "$2"); shift 2 ;;
    --tests) tests=$(realpath "$2"); shift 2 ;;
    --out) out=$2; shift 2 ;;
    --part) parts=$2; shift 2 ;;
    --tiny) tiny=1; shift ;;
    *) sed -n '2,31p' "$0"; exit 2 ;;
  esac
done
[[ -x $finegrain ]] || { echo 'error: --finegrain names no program' >&2; exit 2; }
mkdir -p "$out"
out=$(realpath "$out")

# CUDA's libraries may lie in PyTorch's environment.
python=${FINEGRAIN_PYTHON:-python3}
if [[ -z ${FINEGRAIN_CUDA_LIBRARIES:-} ]]; then
  FINEGRAIN_CUDA_LIBRARIES=$("$python" - <<'PY'
import glob, sysconfig
print(":".join(sorted(set(glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib")))))
PY
  )
  export FINEGRAIN_CUDA_LIBRARIES
fi

wanted() { [[ ,$parts, == *,$1,* ]]; }

# A part's row of the table is a file, so that parts which run side by side do not get in each other's way.
row() { printf '| %s | %s | %s | %s |\n' "$1" "$2" "$3" "$4" >"$out/$1.row"; }
skip() { row "$1" "not run: $2" '' ''; printf '\n== %s: not run: %s\n' "$1" "$2"; }

# step PART LIMIT-SECONDS COMMAND…: its output goes to DIR/PART.log, and its end to the terminal. A function of this script
# sees to the limit of each of its programs itself.
step() {
  local part=$1 limit=$2 start=$SECONDS code said=ok
  shift 2
  if declare -F "$1" >/dev/null; then "$@"; else timeout "$limit" "$@"; fi >"$out/$part.log" 2>&1
  code=$?
  ((code == 124)) && said="stopped after $limit s"
  ((code != 0 && code != 124)) && said="failed ($code)"
  row "$part" "$said" "$((SECONDS - start)) s" "$part.log"
  printf '\n== %s: %s after %d s\n%s\n' "$part" "$said" $((SECONDS - start)) "$(tail -n 60 "$out/$part.log")"
  table >"$out/table.md"
  return $code
}

table() {
  printf '# %s\n\n' "$(date -u +%F)"
  printf '%s\n\n' "$(grep -h 'GPU 0' "$out/doctor.log" 2>/dev/null || echo 'which GPU: doctor was not asked')"
  printf '| part | result | time | log |\n|---|---|---|---|\n'
  local part
  for part in doctor tests bits sandbox speed large llama7b ppo profile sanitizer smollm2; do
    cat "$out/$part.row" 2>/dev/null || printf '| %s | not asked for | | |\n' "$part"
  done
  for part in speed ppo large llama7b profile sandbox smollm2; do
    [[ -s $out/$part.log ]] && printf '\n## %s\n```text\n%s\n```\n' "$part" "$(tail -n 150 "$out/$part.log")"
  done
}

doctor() {
  timeout "$limit" "$finegrain" doctor --require cuda
  local code=$?
  command -v nvidia-smi >/dev/null && nvidia-smi
  return $code
}

# All tests in one process; then those that did not pass, each alone, because after one fault a GPU refuses a process everything.
run_tests() {
  local failed name code
  timeout "$limit" "$tests" cuda gpu device --test-threads 8 --show-output
  code=$?
  ((code == 0)) && return 0
  failed=$("$tests" cuda gpu device --list --format terse | sed -n 's/: test$//p' |
    grep -vxFf <(sed -n 's/^test \(.*\) \.\.\. ok$/\1/p' "$out/tests.log"))
  for name in $failed; do
    printf '\n== alone: %s\n' "$name"
    timeout 30 "$tests" --exact "$name" 2>&1 | tail -n 25
  done
  return $code
}

# Two runs with stores of their own.
bits() {
  local n
  for n in 1 2; do
    timeout "$limit" "$finegrain" run "$root/configs/sandbox/fine-token-ppo.toml" --quiet --set device.kind=cuda --out "$out/bits/run$n" \
      --store "$out/bits/store$n" "${small[@]}" || return
  done
  local models model
  models=$(cd "$out/bits/store1" && find . -name '*.safetensors' | sort)
  [[ $models ]] || { echo 'no model was saved'; return 1; }
  for model in $models; do
    cmp "$out/bits/store1/$model" "$out/bits/store2/$model" || return
    echo "the same bits: $model"
  done
}

small=(--set sandbox.n_demonstrations=400 --set sandbox.n_reward_prompts=120 --set sandbox.n_ppo_prompts=64
  --set sandbox.n_eval_prompts=40 --set sft.epochs=2 --set ppo.steps=4 --set evaluation.prompts_while_training=16
  --set alignment.max_changed=1.0)
whole=()
if [[ $tiny ]]; then
  small=()
  for set in sandbox.n_demonstrations=32 sandbox.n_reward_prompts=20 sandbox.n_ppo_prompts=8 sandbox.n_eval_prompts=8 \
    sft.epochs=1 reward_model.epochs=1 ppo.steps=1 ppo.rollout_rows=8 ppo.minibatch_rows=4 evaluation.every=0 \
    evaluation.prompts_while_training=4 evaluation.bootstrap_samples=100 alignment.max_changed=1.0; do
    small+=(--set "$set")
  done
  whole=("${small[@]}")
fi

wanted doctor && step doctor 60 doctor

if wanted tests; then
  if [[ -x $tests ]]; then step tests 150 run_tests & else skip tests 'no test binary was named'; fi
fi
wanted bits && step bits 60 bits &
wanted sandbox && step sandbox 200 "$finegrain" compare "$root"/configs/sandbox/*.toml --set device.kind=cuda --quiet \
  --out "$out/sandbox" --store "$out/store" "${whole[@]}" &
wait

compare() {
  local part=$1 limit=$2
  shift 2
  wanted "$part" || return 0
  [[ -n ${FINEGRAIN_PYTHON:-} ]] || { skip "$part" 'FINEGRAIN_PYTHON names no Python with PyTorch, transformers and TRL'; return; }
  step "$part" "$limit" "$root/benches/compare" --finegrain "$finegrain" --device cuda --keep-going --markdown "$@"
}
shape=(--shape smollm2)
if [[ $tiny ]]; then
  shape=(--shape small --batch 2x16)
  compare speed 120 --rounds 1 --repetitions 1 --batch 2x16 train:small generate:small
else
  compare speed 120 --rounds 2 --repetitions 5 train:smollm2 generate:smollm2
fi

large() {
  local code=0 workload
  if [[ -n ${FINEGRAIN_PYTHON:-} ]]; then
    timeout "$limit" "$root/benches/compare" --finegrain "$finegrain" --device cuda --keep-going --markdown --rounds 1 \
      --repetitions 3 --batch "${filling[0]}" "train:${filling[1]}" "generate:${filling[1]}" "ppo:${filling[1]}"
    code=$?
  fi
  for workload in train generate ppo; do
    timeout "$limit" "$finegrain" bench "$workload" --shape "${filling[1]}" --batch "${filling[0]}" --device cuda --repetitions 3 \
      --profile || code=$?
  done
  return $code
}
filling=(64x256 smollm2)
[[ $tiny ]] && filling=(4x16 small)
wanted large && step large 120 large

# LLaMA 7B with random weights: four roles on one frozen model, prompts of 192 and responses of 300 tokens.
seven=(--shape llama-7b --batch 64x492 --prompt 192 --micro-batch-tokens 8192)
[[ $tiny ]] && seven=(--shape 64,32,2,4,2,64 --batch 4x12 --prompt 4)
wanted llama7b && step llama7b 140 "$finegrain" bench ppo "${seven[@]}" --lora 8 --device cuda --repetitions 1 --profile

if [[ $tiny ]]; then
  compare ppo 120 --rounds 1 --repetitions 1 --batch 2x16 ppo:small
else
  compare ppo 90 --rounds 2 --repetitions 2 ppo:smollm2
fi

profile() {
  local workload
  for workload in train generate ppo; do
    timeout "$limit" "$finegrain" bench "$workload" "${shape[@]}" --device cuda --repetitions 3 --profile || return
  done
}
wanted profile && step profile 30 profile

if wanted sanitizer; then
  if [[ -x $tests ]] && command -v compute-sanitizer >/dev/null; then
    # One thread, so that the sanitizer's report and a test's name stand together.
    step sanitizer 90 compute-sanitizer --error-exitcode 9 "$tests" on_cuda a_gpu ops::attention::cuda --test-threads 1
  else
    skip sanitizer 'no test binary was named, or there is no compute-sanitizer'
  fi
fi

if wanted smollm2; then
  if [[ -e ${FINEGRAIN_SMOLLM2:-} && -e ${FINEGRAIN_EDIT_PAIRS:-} ]]; then
    step smollm2 300 "$finegrain" compare "$root"/configs/edit-pairs/*.toml --set device.kind=cuda --quiet \
      --set "model.path=$(realpath "$FINEGRAIN_SMOLLM2")" --set 'model.lora={ rank = 8, alpha = 16 }' --set "data.path=$(realpath "$FINEGRAIN_EDIT_PAIRS")" \
      --set data.prompt_field=prompt --set data.original_field=original --set data.edited_field=edited --out "$out/smollm2" --store "$out/store"
  else
    skip smollm2 'FINEGRAIN_SMOLLM2 and FINEGRAIN_EDIT_PAIRS name no model and no file of edit pairs'
  fi
fi

table | tee "$out/table.md"
