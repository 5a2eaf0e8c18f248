#!/usr/bin/env bash
# images-start.sh TAG: each image of ours starts as it will in a pod: not root, nothing writable, no rights.
set -euo pipefail
tag=$1
run=(docker run --rm --read-only --cap-drop=ALL --security-opt=no-new-privileges --tmpfs /tmp)

"${run[@]}" --entrypoint python "localhost/chatbot-operator:$tag" -c "import chatbot_operator.__main__"
"${run[@]}" "localhost/chatbot-runtime:$tag" --help > /dev/null
"${run[@]}" "localhost/chatbot-llama-server:$tag" --help > /dev/null
"${run[@]}" --entrypoint nginx "localhost/chatbot-web:$tag" -v

for name in operator runtime web llama-server; do
  user=$(docker image inspect --format '{{.Config.User}}' "localhost/chatbot-$name:$tag")
  case $user in
    [1-9]*:[1-9]*) ;;
    *) echo "chatbot-$name runs as '$user'" >&2; exit 1 ;;
  esac
  if "${run[@]}" --entrypoint sh "localhost/chatbot-$name:$tag" -c 'command -v gcc cc g++ clang make'; then
    echo "chatbot-$name holds a compiler" >&2
    exit 1
  fi
done
