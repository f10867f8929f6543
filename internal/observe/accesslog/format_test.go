package accesslog

import (
	"errors"
	"testing"
)

func TestCompile(t *testing.T) {
	const all = Method | URI | Status | Time | RequestTime | UpstreamTime
	tests := []struct {
		name, format string
		fields       Fields
		line         string // must parse
	}{
		{"combined", "combined", Method | URI | Status | Time,
			`10.0.0.1 - - [01/Mar/2027:07:00:00 -1000] "GET / HTTP/1.1" 200 5 "-" "curl/8"`},
		{"tidemark", "tidemark", all,
			`10.0.0.1 - - [01/Mar/2027:07:00:00 -1000] "GET / HTTP/1.1" 200 5 "-" "curl/8" rt=0.002 urt="0.001" uct="0.000" uht="0.001" addr="127.0.0.1:8069" len=77`},
		{"string", `$status $request_time`, Status | RequestTime, `200 0.010`},
		{"line end of yaml", "$status $request_time\n", Status | RequestTime, `200 0.010`},
		{"braces", `${status}ms${request_time}s`, Status | RequestTime, `200ms0.010s`},
		{"directive", `log_format main '$status '` + "\n\t" + `"\"$request\"" # who
			' $request_time';`, Status | Method | URI | RequestTime, `200 "GET / HTTP/1.1" 0.010`},
		{"directive without semicolon", `log_format main '$status';`, Status, `200`},
		{"directive, bare word", `log_format main $status|$request_time;`, Status | RequestTime, `200|0.010`},
		{"directive with tab", `log_format main '$status\t$request_time';`, Status | RequestTime, "200\t0.010"},
		{"parts", `'$status' ' $request_time'`, Status | RequestTime, `200 0.010`},
		{"a name ends with its string", `'$stat' 'us $status'`, Status, `Xus 200`},
		{"quoted quote", `'it\'s $status'`, Status, `it's 200`},
		{"other backslashes stay", `'\d $status'`, Status, `\d 200`},
		{"json", `escape=json '{"s":$status,"rt":"$request_time"}'`, Status | RequestTime, `{"s":200,"rt":"0.010"}`},
		{"json, the string alone", `escape=json {"s":$status,"rt":"$request_time"}`, Status | RequestTime, `{"s":200,"rt":"0.010"}`},
		{"json without escape", `{"s":$status,"rt":"$request_time"}`, Status | RequestTime, `{"s":200,"rt":"0.010"}`},
		{"starts with a quote", `"$request" $status`, Method | URI | Status, `"GET / HTTP/1.1" 200`},
		{"none", `escape=none $status`, Status, `200`},
		{"default", `log_format x escape=default '$status';`, Status, `200`},
		{"unknown variables are skipped", `$my_map $http_x_y "$status" $anything`, Status, `a b "200" c d`},
		{"list last", `$status $upstream_response_time`, Status | UpstreamTime, `200 0.1, 0.2`},
		{"list before a space", `$upstream_response_time $status`, Status | UpstreamTime, `0.1, 0.2 : - 200`},
		{"list before a comma", `$upstream_response_time,$status`, Status | UpstreamTime, `0.1, 0.2,200`},
		{"dialect in pipes", `$time_local|$request|$status`, Time | Method | URI | Status, `01/Mar/2027:07:00:00 -1000|GET / HTTP/1.1|200`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Compile(tt.format)
			if err != nil {
				t.Fatal(err)
			}
			if f.fields != tt.fields {
				t.Errorf("fields %b, want %b", f.fields, tt.fields)
			}
			var e Entry
			if err := f.Parse([]byte(tt.line), &e); err != nil {
				t.Errorf("%s: %v", tt.line, err)
			}
		})
	}
}

func TestCompileErrors(t *testing.T) {
	tests := []struct{ format, want string }{
		{"", `log_format: position 1: "" has no variable and is no format's name; write nginx's own log_format string, or one of the names combined and tidemark`},
		{"main", `log_format: position 1: "main" has no variable and is no format's name; write nginx's own log_format string, or one of the names combined and tidemark`},
		{"$status$request_time", `log_format: position 8: nothing stands between $status and $request_time; put a character between them that neither value holds, e.g. a space`},
		{"log_format a '$status' '$request_time';", `log_format: position 25: nothing stands between $status and $request_time; put a character between them that neither value holds, e.g. a space`},
		{"a $ b", `log_format: position 3: $ without the name of a variable; write the name (letters, digits and _) right after it`},
		{"a $", `log_format: position 3: $ without the name of a variable; write the name (letters, digits and _) right after it`},
		{"a ${} b", `log_format: position 3: $ without the name of a variable; write the name (letters, digits and _) right after it`},
		{"a ${status b", `log_format: position 3: the bracket of ${status is not closed; write ${status}`},
		{"a ${status", `log_format: position 3: the bracket of ${status is not closed; write ${status}`},
		{"'$status", `log_format: position 1: the quote that opens here is never closed; close it with '`},
		{`'$status'"x"`, `log_format: position 10: '"' follows a closing quote; put a space between two strings, or a backslash before a quote that belongs to the string`},
		{"log_format main '$status'; log_format b '$uri';", `log_format: position 28: something follows the log_format's semicolon; write one log_format only`},
		{"log_format ;", `log_format: position 12: log_format has no name; write log_format name '...';`},
		{"log_format main;", `log_format: position 1: "log_format main;" has no variable and is no format's name; write nginx's own log_format string, or one of the names combined and tidemark`},
		{"escape=html '$status'", `log_format: position 1: escape=html is unknown; write escape=default, json or none`},
		{"$request $status", `log_format: position 1: the value of $request holds spaces, and a space is all that ends it; write "$request" in double quotes`},
		{"$status $http_user_agent $uri", `log_format: position 9: the value of $http_user_agent holds spaces, and a space is all that ends it; write "$http_user_agent" in double quotes`},
		{"$upstream_response_time, $status", `log_format: position 1: $upstream_response_time is followed by ", ", which also stands inside its value when several upstreams were tried; write "$upstream_response_time" in double quotes`},
		{"$upstream_addr : $status", `log_format: position 1: $upstream_addr is followed by " : ", which also stands inside its value when several upstreams were tried; write "$upstream_addr" in double quotes`},
	}
	for _, tt := range tests {
		_, err := Compile(tt.format)
		var bad *FormatError
		if !errors.As(err, &bad) {
			t.Errorf("%q: %v, want a FormatError", tt.format, err)
		} else if err.Error() != tt.want {
			t.Errorf("%q:\n got %s\nwant %s", tt.format, err, tt.want)
		}
	}
}

// FuzzCompile: any text either compiles to a parser that never panics, or gives an error inside the text.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		"combined", Tidemark, Directive(), `'$a' "x\"$b"`, `escape=json {"a":"$request"}`, "log_format x escape=none '$a\t${b}';",
		"$a$b", "$", "${", "'", "log_format", "# x\n'$a'", "$upstream_addr $status", `\$a`, "\x00$a\xff",
	} {
		f.Add(s, "a b c")
	}
	f.Fuzz(func(t *testing.T, format, line string) {
		c, err := Compile(format)
		if err != nil {
			var bad *FormatError
			if !errors.As(err, &bad) || bad.Msg == "" || bad.Fix == "" {
				t.Fatalf("%q: %#v", format, err)
			}
			if bad.Position < 1 || bad.Position > len(format)+1 {
				t.Fatalf("%q: position %d", format, bad.Position)
			}
			return
		}
		var e Entry
		_ = c.Parse([]byte(line), &e)
		again, err := Compile(c.String())
		if err != nil || again.fields != c.fields {
			t.Fatalf("%q does not compile again from %q: %v", format, c, err)
		}
	})
}
