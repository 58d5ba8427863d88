# A user who owns nothing and may do nothing but use the engine, for .ci/run to source.

user_id=61234

# make_user_place FOLDER: sources, an environment and the engine's socket, each where a user without rights can reach it.
# The checkout and the Python of root's environment may be in a home that only root may enter.
make_user_place() {
    mkdir -p "$1/user/source" "$1/user/home"
    git -c safe.directory='*' ls-files -z | xargs -0 cp --parents -t "$1/user/source"
    chmod 755 "$1"
    /usr/bin/python3 -m venv --without-pip "$1/user/venv"
    pip --python "$1/user/venv/bin/python" install -qq -e "$1/user/source[test]"
    chown -R "$user_id:$user_id" "$1/user"
    chgrp "$user_id" "$1/docker.sock"
    chmod 660 "$1/docker.sock"
}

# as_user PLACE COMMAND...
as_user() {
    local place=$1
    shift
    DYNASAUR_TESTS_REQUIRE=docker,jail HOME="$place/home" PATH="$place/venv/bin:$PATH" VIRTUAL_ENV="$place/venv" \
        XDG_CACHE_HOME="$place/home/cache" XDG_DATA_HOME="$place/home/share" XDG_CONFIG_HOME="$place/home/config" \
        setpriv --reuid "$user_id" --regid "$user_id" --clear-groups "$@"
}
