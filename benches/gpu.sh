#!/usr/bin/env bash
# What a machine with a GPU is asked, in one script that builds nothing: whether CUDA works, whether every operation and the
# whole loop agree with the processor, and how fast it is beside PyTorch, transformers and TRL on the same GPU in the same run.
#
#   cargo build --release                                          # needs no CUDA; copy target/release/finegrain
#   cargo test --release -p finegrain --lib --no-run               # prints the test binary's path; copy it too
#   benches/gpu.sh --finegrain BINARY --tests BINARY [--out DIR] [--part NAME[,NAME]] [--tiny]
#
# Parts, each with a time limit and each going on after a failure: doctor, tests, sandbox, speed, llama7b, smollm2. smollm2 needs
# FINEGRAIN_SMOLLM2 (a .gguf or a folder) and FINEGRAIN_EDIT_PAIRS (a file of edit pairs). speed needs a Python with
# benches/peers/requirements.txt in FINEGRAIN_PYTHON. --tiny makes everything so small that the emulator of tests/emulator gets
# through; its times mean nothing. Results and logs lie in DIR (gpu-results where absent), a table in DIR/table.md.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
finegrain= tests= out=gpu-results parts=doctor,tests,sandbox,speed,llama7b,smollm2 tiny=
while [[ $# -gt 0 ]]; do
  case $1 in
    --finegrain) finegrain=$(realpath "$2"); shift 2 ;;
    --tests) tests=$(realpath "$2"); shift 2 ;;
    --out) out=$2; shift 2 ;;
    --part) parts=$2; shift 2 ;;
    --tiny) tiny=1; shift ;;
    *) sed -n '2,14p' "$0"; exit 2 ;;
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

declare -a rows=()
# step PART LIMIT-SECONDS COMMAND…: runs it where the part was asked for; its output goes to DIR/PART.log.
step() {
  local part=$1 limit=$2 start=$SECONDS code
  shift 2
  [[ ,$parts, == *,$part,* ]] || { rows+=("| $part | not asked for | | |"); return 1; }
  printf '\n== %s: %s\n' "$part" "$*"
  timeout "$limit" "$@" > >(tee "$out/$part.log") 2>&1
  code=$?
  local said=ok
  ((code == 124)) && said="stopped after $limit s"
  ((code != 0 && code != 124)) && said="failed ($code)"
  rows+=("| $part | $said | $((SECONDS - start)) s | $part.log |")
  return $code
}
skip() { rows+=("| $1 | not run: $2 | | |"); printf '\n== %s: not run: %s\n' "$1" "$2"; }

step doctor 120 "$finegrain" doctor --require cuda

if [[ -x $tests ]]; then
  sanitizer=()
  command -v compute-sanitizer >/dev/null && sanitizer=(compute-sanitizer --error-exitcode 9)
  # One thread, so that the sanitizer's report and a test's name stand together.
  step tests 540 "${sanitizer[@]}" "$tests" cuda gpu device --test-threads 1
else
  skip tests 'no test binary was named'
fi

small=()
if [[ $tiny ]]; then
  for set in sandbox.n_demonstrations=32 sandbox.n_reward_prompts=20 sandbox.n_ppo_prompts=8 sandbox.n_eval_prompts=8 \
    sft.epochs=1 reward_model.epochs=1 ppo.steps=1 ppo.rollout_rows=8 ppo.minibatch_rows=4 evaluation.every=0 \
    evaluation.prompts_while_training=4 evaluation.bootstrap_samples=100 alignment.max_changed=1.0; do
    small+=(--set "$set")
  done
fi
step sandbox 540 "$finegrain" compare "$root"/configs/sandbox/*.toml --set device.kind=cuda --quiet \
  --out "$out/sandbox" --store "$out/store" "${small[@]}"

if [[ -n ${FINEGRAIN_PYTHON:-} ]]; then
  pairs=(train:smollm2 generate:smollm2 ppo:smollm2)
  options=(--rounds 3)
  [[ $tiny ]] && pairs=(train:small) && options=(--rounds 1 --repetitions 1 --batch 2x16)
  step speed 570 "$root/benches/compare" --finegrain "$finegrain" --device cuda --keep-going --markdown "${options[@]}" "${pairs[@]}"
else
  skip speed 'FINEGRAIN_PYTHON names no Python with PyTorch, transformers and TRL'
fi

# LLaMA 7B with random weights: four roles on one frozen model, prompts of 192 and responses of 300 tokens.
seven=(--shape llama-7b --batch 64x492 --prompt 192)
[[ $tiny ]] && seven=(--shape 64,32,2,4,2,64 --batch 4x12 --prompt 4)
step llama7b 590 "$finegrain" bench ppo "${seven[@]}" --lora 8 --recompute --device cuda --repetitions 1 --warm-up 1

if [[ -e ${FINEGRAIN_SMOLLM2:-} && -e ${FINEGRAIN_EDIT_PAIRS:-} ]]; then
  step smollm2 590 "$finegrain" compare "$root"/configs/edit-pairs/*.toml --set device.kind=cuda --quiet \
    --set "model.path=$FINEGRAIN_SMOLLM2" --set "data.path=$FINEGRAIN_EDIT_PAIRS" --out "$out/smollm2" --store "$out/store"
else
  skip smollm2 'FINEGRAIN_SMOLLM2 and FINEGRAIN_EDIT_PAIRS name no model and no file of edit pairs'
fi

{
  printf '# %s\n\n' "$(date -u +%F)"
  printf '%s\n\n' "$(grep -h 'GPU 0' "$out/doctor.log" 2>/dev/null || echo 'which GPU: doctor was not asked')"
  printf '| part | result | time | log |\n|---|---|---|---|\n'
  printf '%s\n' "${rows[@]}"
  for log in speed llama7b sandbox; do
    [[ -s $out/$log.log ]] && printf '\n## %s\n```text\n%s\n```\n' "$log" "$(tail -80 "$out/$log.log")"
  done
} | tee "$out/table.md"
