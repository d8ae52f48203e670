#!/usr/bin/env bash
# 一键启动 CHORD 训练：准备数据、启动 Ray（没有运行时）、训练、如实返回退出码。bash run_chord_training.sh --help
set -euo pipefail

usage() {
    cat <<'TEXT'
用法: bash run_chord_training.sh [选项] [-- 键=值 ...]

  --input-dir DIR      SFT 数据文件夹（默认 sft_data；这里没有时用自带的样例）
  --expert-ratio R     可验证的数据里有多少成为专家数据（默认 0.25）
  --config-type TYPE   full：完整配置，500 步；simple：小批次，50 步，先验证流程（默认 full）
  --model MODEL        hub 名或本地文件夹（默认 Qwen/Qwen3-4B；本地引擎默认自带的小模型）
  --gpus N             用几张 GPU（默认全部）
  --local              不用 GPU：本地引擎，同样的流程，小模型（CPU 上约几分钟）
  --name NAME          实验名，例如 qwen3-4b-chord-v1.2-peak0.6-expert0.3
  --out DIR            运行文件夹（默认 outputs/<实验名>/<时间>）
  --resume             接着 --out 里中断的运行
  --dry-run            只显示将要运行的内容和全部尺寸
  --yes                对提问一律回答“是”（批处理、没有终端时用）
  --help               显示这段说明

-- 之后的 键=值 原样交给 chord_exp，例如 -- mu_peak=0.4 total_steps=100
数值与 qwen3_chord_config.yaml、qwen3_chord_simple.yaml 相同，尺寸按 GPU 数重新推导。
运行自己改过的 YAML：python -m chord_exp.check my_config.yaml && trinity run --config my_config.yaml

退出码: 0 成功，1 训练失败，2 参数、配置或数据有误（什么都没跑），130 被中断
TEXT
}

say() { printf '%s\n' "run_chord_training: $*"; }
refuse() {
    printf '%s\n' "run_chord_training: $1" >&2
    exit 2
}

input_dir=sft_data expert_ratio=0.25 config_type=full
model='' gpus='' name='' out=''
local_engine=false resume=false dry_run=false yes=false
extra=()

while (($#)); do
    option=${1//_/-}
    [[ $1 == --*=* ]] && option=${1%%=*} && option=${option//_/-}
    case $option in
    --input-dir | --expert-ratio | --config-type | --model | --gpus | --name | --out)
        if [[ $1 == --*=* ]]; then
            value=${1#*=}
        else
            (($# >= 2)) || refuse "$1 后面缺少值；--help 列出全部选项"
            value=$2
            shift
        fi
        [[ -n $value ]] || refuse "$option 的值是空的；--help 列出全部选项"
        case $option in
        --input-dir) input_dir=$value ;;
        --expert-ratio) expert_ratio=$value ;;
        --config-type) config_type=$value ;;
        --model) model=$value ;;
        --gpus) gpus=$value ;;
        --name) name=$value ;;
        --out) out=$value ;;
        esac
        ;;
    --local) local_engine=true ;;
    --resume) resume=true ;;
    --dry-run) dry_run=true ;;
    --yes | -y) yes=true ;;
    --help | -h)
        usage
        exit 0
        ;;
    --)
        shift
        extra=("$@")
        break
        ;;
    *) refuse "不认识的选项 $1；--help 列出全部选项" ;;
    esac
    shift
done

[[ $config_type == full || $config_type == simple ]] || refuse "--config-type $config_type 应为 full 或 simple"
[[ -z $gpus || $gpus =~ ^[0-9]+$ ]] || refuse "--gpus $gpus 不是个数"
[[ $resume == false || -n $out ]] || refuse "--resume 要用 --out 指明接着哪个运行文件夹"
# owner/name 可能是 hub 上的数据集
[[ $input_dir == sft_data || -d $input_dir || $input_dir =~ ^[[:alnum:]][^/]*/[^/]+$ ]] ||
    refuse "没有数据文件夹 $input_dir；用 --input-dir 指明"

# Python：正在用的环境优先，其次是仓库里 make 建好的
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=''
for candidate in "${CHORD_PYTHON:-}" python "$here/../.venv/bin/python" python3; do
    [[ -n $candidate ]] || continue
    if "$candidate" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("chord_exp") is None)' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[[ -n $python ]] || refuse "找不到装有 chord_exp 的 Python：在仓库里运行 make setup，或先激活环境"

count_gpus() {
    if [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
        local list=${CUDA_VISIBLE_DEVICES//[[:space:]]/}
        [[ -z $list || $list == -1 ]] && echo 0 && return
        tr ',' '\n' <<<"$list" | wc -l
    else
        { nvidia-smi -L 2>/dev/null || true; } | grep -c '^GPU ' || true
    fi
}

if [[ $local_engine == false ]]; then
    [[ -n $gpus ]] || gpus=$(count_gpus)
    if ((gpus == 0)); then
        say "没有发现 GPU。可以用本地引擎预演：同样的数据、采样、优势计算和损失，自带的小模型，在 CPU 上几分钟跑完；"
        say "它验证流程，不代表 Qwen3-4B 的效果。"
        if [[ $yes == true ]]; then
            local_engine=true
        elif [[ -t 0 && -t 1 ]]; then
            read -r -p "用本地引擎？[Y/n] " answer || answer=n
            [[ $answer == '' || $answer == [Yy]* ]] && local_engine=true
        fi
        [[ $local_engine == true ]] || refuse "没有 GPU，什么都没跑：加 --local（或 --yes）用本地引擎，或到有 GPU 的机器上运行"
    fi
fi

words=("data=folder" "data.input_dir=$input_dir" "data.expert_ratio=$expert_ratio")
if [[ $local_engine == true ]]; then
    # 小模型放不下长的系统提示；自带样例也不需要
    words+=('data.system_prompt=""')
    if [[ $config_type == simple ]]; then
        words+=("mu_schedule=seed_simple" "total_steps=50")
    fi
    if [[ -n $model ]]; then
        words+=("model.path=$model" "model.name=$(basename "$model")")
        words+=("model.max_prompt_tokens=512" "model.max_response_tokens=512")
    fi
else
    words+=("experiment=seed_$config_type")
    case $gpus in
    1 | 2 | 4 | 8) words+=("cluster=gpu_$gpus") ;;
    *) words+=("cluster=gpu_8" "cluster.gpu_per_node=$gpus") ;;
    esac
    [[ -z $model ]] || words+=("model.path=$model")
fi
[[ -z $name ]] || words+=("name=$name")
words+=(${extra[@]+"${extra[@]}"})

if [[ $dry_run == true ]]; then
    exec "$python" -m chord_exp action=plan "${words[@]}"
fi
[[ -z $out ]] || words+=("hydra.run.dir=$out")
[[ $resume == false ]] || words+=("resume=true")

ray_pid='' ray_folder='' run_pid=''
# shellcheck disable=SC2329  # 由 trap 调用
stop_ray() {
    [[ -n $ray_pid ]] || return 0
    say "停止本脚本启动的 Ray"
    kill -TERM "$ray_pid" 2>/dev/null || true
    wait "$ray_pid" 2>/dev/null || true
    rm -rf "$ray_folder"
}
trap stop_ray EXIT
# 终端的 Ctrl-C 自己会到达训练进程；批处理系统的 TERM 只到脚本，当作一次 Ctrl-C 转交：跑完这一步并保存
trap ':' INT
trap 'if [[ -n $run_pid ]]; then kill -INT "$run_pid" 2>/dev/null || true; else exit 143; fi' TERM

start_ray() {
    local port
    port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    ray_folder=$(mktemp -d /tmp/chord-ray-XXXXXX)
    # 只在本机回环地址上监听（没有第二个变量，Ray 会把 127.0.0.1 换成对外的地址）；
    # 认证方式写明，否则主目录里旧的令牌文件会让连接失败
    export RAY_AUTH_MODE=disabled RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 RAY_USAGE_STATS_ENABLED=0
    say "没有正在运行的 Ray，在本机启动一个（$gpus 张 GPU，结束时停止）"
    # verl 每张 GPU 向 Ray 要三个 CPU 核，引擎要一个；Ray 只是记数，核少的机器不写明就会一直等
    "$python" -m ray.scripts.scripts start --head --block --node-ip-address=127.0.0.1 --port="$port" \
        --num-gpus="$gpus" --num-cpus=$((4 * gpus + 1)) --include-dashboard=false \
        --temp-dir="$ray_folder" >"$ray_folder/start.log" 2>&1 &
    ray_pid=$!
    export RAY_ADDRESS=127.0.0.1:$port
    local tries
    for ((tries = 0; tries < 60; tries++)); do
        # 头节点会先于工作节点应答：看到 GPU 才算启动完成
        "$python" -m ray.scripts.scripts status 2>/dev/null | grep -q "/$gpus\.0 GPU" && return 0
        kill -0 "$ray_pid" 2>/dev/null || break
        sleep 1
    done
    tail -n 20 "$ray_folder/start.log" >&2
    printf '%s\n' "run_chord_training: Ray 没有启动成功，以上是它的输出" >&2
    exit 1
}

if [[ $local_engine == false ]]; then
    # 先检查全部尺寸：配置有误时不启动任何东西
    "$python" -m chord_exp action=plan "${words[@]}" || exit $?
    if ((gpus == 1)); then
        say "一张 GPU 由引擎和 trainer 共用：训练进程自己启动一个 Ray"
    elif "$python" -m ray.scripts.scripts status >/dev/null 2>&1; then
        say "使用正在运行的 Ray"
    else
        start_ray
        words+=("cluster.ray_address=$RAY_ADDRESS")
    fi
fi

# 后台启动再等待，才能转交信号；后台进程默认忽略 Ctrl-C，所以先恢复
(
    trap - INT TERM EXIT
    exec "$python" -m chord_exp "${words[@]}"
) &
run_pid=$!
code=0
while :; do
    wait "$run_pid" && code=0 || code=$?
    # 大于 128 可能只是 wait 被信号打断
    if ((code <= 128)) || ! kill -0 "$run_pid" 2>/dev/null; then break; fi
done
exit "$code"
