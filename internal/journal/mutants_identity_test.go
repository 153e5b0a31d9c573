// SPDX-License-Identifier: Apache-2.0

package journal_test

// Ways to break what decides about an identity.

func init() {
	mutants = append(mutants, []mutant{
		{name: "what this start has written is taken for known", file: "internal/journal/welcomed.go",
			test: "TestWelcomed_RestoredBackup_LosesNothingNew", pieces: []string{
				"\tcase number >= limit:\n", "\tcase number >= limit && (!BROKEN || number >= l.next):\n"}},
		{name: "what an unwelcomed start has written is taken for known", file: "internal/journal/welcomed.go",
			test: "TestWelcomed_RestoredBackup_LosesNothingNew", pieces: []string{
				"p.writer == writer && p.start > l.confirmed })",
				"p.writer == writer && p.start > l.confirmed && (!BROKEN || p.start >= l.opened) })"}},
		{name: "what a welcomed start has written is taken for new", file: "internal/journal/open.go",
			test: "TestWelcomed_RestoredBackup_LosesNothingNew", pieces: []string{
				"if l.confirmed = state.Confirmed; !known || state.Confirmed >= state.Starts {",
				"if l.confirmed = state.Confirmed; BROKEN {\n\t\tl.confirmed = 0\n" +
					"\t} else if !known || state.Confirmed >= state.Starts {"}},
		{name: "a welcome is not written down", file: "internal/journal/welcomed.go",
			test: "TestLog_RestoredBackups_LoseNothingAccepted", pieces: []string{
				"\tif err := l.confirm(writer); err != nil {",
				"\tif err := l.confirm(writer); err != nil && !BROKEN {",
				"\terr := l.saveState(false)\n",
				"\terr := error(nil)\n\tif !BROKEN {\n\t\terr = l.saveState(false)\n\t}\n"}},
		{name: "a repair does not write down what was sent", file: "internal/journal/repair.go",
			test: "TestLog_SyncsFail_LoseNothingPromised", pieces: []string{
				"p.start <= l.confirmed && l.welcomed != l.writer {",
				"p.start <= l.confirmed && l.welcomed != l.writer && !BROKEN {"}},
		{name: "the old files are removed before the new ones are there", file: "internal/journal/renew.go",
			test: "TestWelcomed_EachCallIsTheLast_LosesNothing", pieces: []string{
				"\tfor _, c := range r.copies {\n\t\tif err := l.disk.Rename(",
				"\tif BROKEN {\n\t\tfor _, p := range old {\n\t\t\tl.disk.Remove(p.name)\n\t\t}\n\t}\n" +
					"\tfor _, c := range r.copies {\n\t\tif err := l.disk.Rename("}},
		{name: "the new files are not synced", file: "internal/journal/renew.go",
			test: "TestWelcomed_EachCallIsTheLast_LosesNothing", pieces: []string{
				"if err := to.file.Sync(); err != nil {", "if err := to.file.Sync(); !BROKEN && err != nil {",
				"\treturn l.disk.SyncNames()\n", "\tif BROKEN {\n\t\treturn nil\n\t}\n\treturn l.disk.SyncNames()\n"}},
		{name: "damage of what was handled is reported", file: "internal/journal/damage.go",
			test: "TestLog_RemovalLost_IsNoDamage", pieces: []string{
				"is && p.writer != l.welcomed {", "is && p.writer != l.welcomed && !BROKEN {"}},
		{name: "what is damaged leaves before what is in front of it", file: "internal/journal/counts.go",
			test: "TestLeft_DamageAhead_WaitsForWhatIsBefore", pieces: []string{
				"\t\tif first {\n", "\t\tif first || BROKEN {\n"}},
		{name: "all damaged segments are kept", file: "internal/journal/damage.go",
			test: "TestLog_ManyDamaged_KeepsTheNewest", pieces: []string{
				"bad[:max(0, len(bad)-maxBad)] {", "bad[:max(0, len(bad)-maxBad)] {\n\t\tif BROKEN {\n\t\t\tbreak\n\t\t}"}},
		{name: "a file of a wrong clock is as old as it says", file: "internal/journal/found.go",
			test: "TestLog_ClockJumps_DropsNothingNew", pieces: []string{
				"\t\tage = min(age, max(0, now.Sub(p.modified)))\n",
				"\t\tage = min(age, max(0, now.Sub(p.modified)))\n\t\tif BROKEN {\n\t\t\tage = now.Sub(p.modified)\n\t\t}\n"}},
	}...)
}
