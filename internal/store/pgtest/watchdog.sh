# The life of a throw-away cluster: sh -c SCRIPT NAME BIN DIR SUPERUSER OPTIONS.
# It writes "ready" when the server accepts connections, and ends the server
# and removes DIR when standard input is closed, by the test process or by its
# death.
bin=$1 dir=$2 superuser=$3 options=$4

# ICU's order rather than byte order: a production database has a language too,
# so a query that needs byte order has to ask for it.
# --no-sync: nobody will miss the data.
"$bin/initdb" -D "$dir/data" -U "$superuser" -A trust -E UTF8 --no-sync \
	--locale=C --locale-provider=icu --icu-locale=und </dev/null >"$dir/log" 2>&1 &&
	"$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -o "$options" -s -w start </dev/null >>"$dir/log" 2>&1 &&
	echo ready ||
	echo failed
exec >&-

cat >/dev/null

if [ -f "$dir/data/postmaster.pid" ]; then
	"$bin/pg_ctl" -D "$dir/data" -m immediate -s -w stop >>"$dir/log" 2>&1
fi
cd / && rm -rf "$dir"
