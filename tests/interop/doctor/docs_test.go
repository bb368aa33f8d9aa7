package doctor_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"detour.example/interop/relay"
)

// beforeIt are faults that the reading of the settings finds before the doctor can.
var beforeIt = map[string]string{
	"D29 mesh-peer": "ends as D01 refused",
}

var faultPattern = regexp.MustCompile("D[0-9]{2} [a-z0-9-]*[a-z0-9]")

// The table of symptoms lists what is tested, and both languages list the same.
func TestTheTroubleshootingPagesAreTrue(t *testing.T) {
	docs := filepath.Join(relay.ModuleDir(), "..", "..", "docs")
	codes := func(name string) []string {
		b, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, quoted := range regexp.MustCompile("`(D[0-9]{2}( [a-z0-9-]+)?)`").FindAllStringSubmatch(string(b), -1) {
			found[quoted[1]] = true
		}
		return slices.Sorted(maps.Keys(found))
	}
	english, chinese := codes("troubleshooting.md"), codes("troubleshooting.zh.md")
	if !slices.Equal(english, chinese) {
		t.Errorf("the pages differ:\nEnglish %q\nChinese %q", english, chinese)
	}

	var tests strings.Builder
	files, _ := filepath.Glob(filepath.Join(relay.ModuleDir(), "doctor", "*_test.go"))
	made, _ := filepath.Glob(filepath.Join(relay.ModuleDir(), "elsewhere", "*_test.go"))
	for _, file := range append(files, made...) {
		if filepath.Base(file) == "docs_test.go" {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(b)
	}
	tested := faultPattern.FindAllString(tests.String(), -1)
	for _, id := range english {
		if strings.Contains(id, " ") && !slices.Contains(tested, id) {
			t.Errorf("%s has no test", id)
		}
	}
	for _, id := range tested {
		title := strings.Fields(id)[1]
		if !slices.Contains(english, id) && !slices.Contains([]string{"left-out", "insecure", "from-outside", "will-be-made"}, title) {
			t.Errorf("%s is tested and not on the page", id)
		}
	}
	// So is every failure and every warning that it can give.
	sources, _ := filepath.Glob(filepath.Join(docs, "..", "src", "*", "*.cc"))
	given := regexp.MustCompile(`(?:State::k(?:Fail|Warn)|state|bad|none)[^"{};]{0,60}"(D[0-9]{2})",\s*"([a-z0-9-]+)"`)
	n := 0
	for _, file := range sources {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range given.FindAllStringSubmatch(string(b), -1) {
			n++
			id := f[1] + " " + f[2]
			if _, excused := beforeIt[id]; !excused && !slices.Contains(english, id) {
				t.Errorf("%s, of %s, is not on the page", id, filepath.Base(file))
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d failures and warnings found in the source", n)
	}
	// Every code that the program knows is on the page.
	out, _, _ := runCommand(t, nil, "doctor", "--codes")
	for line := range strings.Lines(out) {
		code := strings.Fields(line)[0]
		if code != "D00" && !slices.ContainsFunc(english, func(id string) bool { return strings.HasPrefix(id, code) }) {
			t.Errorf("%s is not on the page", code)
		}
	}
}
