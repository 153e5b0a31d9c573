// SPDX-License-Identifier: Apache-2.0

package journal_test

// The mutants of what a start finds, of what is synced and written again, and of how room is made.

func init() {
	mutants = append(mutants, []mutant{
		{name: "an oldest segment without a header is removed without a word", file: "internal/journal/found.go",
			test: "TestOpen_SegmentUnreadable_IsReported", pieces: []string{
				"case readable || kept && l.isMissing(p, next, state):",
				"case readable || !BROKEN && kept && l.isMissing(p, next, state):"}},
		{name: "numbers behind a last segment that cannot be read are used", file: "internal/journal/found.go",
			test: "TestOpen_SegmentUnreadable_IsReported", pieces: []string{
				"\t\t\tl.lostEnd = l.lostEnd || next == nil",
				"\t\t\tl.lostEnd = l.lostEnd || !BROKEN && next == nil"}},
		{name: "the state does not tell whose segment it is", file: "internal/journal/found.go",
			test: "TestOpen_HeaderDamaged_LosesNothing", pieces: []string{
				"\t\tif last := l.lastLocked(); last != nil {\n",
				"\t\tif BROKEN {\n\t\t\tguesses = guesses[1:]\n\t\t}\n\t\tif last := l.lastLocked(); last != nil {\n"}},
		{name: "a torn tail is damage", file: "internal/journal/walk.go",
			test: "TestNext_TornTailOfOlderSegment_IsNoDamage", pieces: []string{
				"w.next >= end && errors.Is(cause", "w.next >= end && !BROKEN && errors.Is(cause"}},
		{name: "Sync leaves names to the kernel", file: "internal/journal/sync.go",
			test: "TestSync_Returned_SurvivesTheMachine", pieces: []string{
				"\tif !unnamed {\n", "\tif !unnamed || BROKEN {\n"}},
		{name: "names are synced once only", file: "internal/journal/sync.go",
			test: "TestSync_Returned_SurvivesTheMachine", pieces: []string{
				"\t\tl.unnamed = true\n", "\t\tl.unnamed = !BROKEN\n"}},
		{name: "files stay open until they are synced", file: "internal/journal/sync.go",
			test: "TestAppend_ManySegments_KeepsFewFilesOpen", pieces: []string{
				"\tif l.files++; l.files < maxFiles {\n", "\tif l.files++; l.files < maxFiles || BROKEN {\n"}},
		{name: "a repair copies what no sync has failed for", file: "internal/journal/repair.go",
			test: "TestRepair_Handled_CopiesNothing", pieces: []string{
				"\tif from < 0 { //", "\tif BROKEN && from < 0 {\n\t\tfrom = 0\n\t}\n\tif from < 0 { //"}},
		{name: "a group is larger than the spool", file: "internal/journal/append.go",
			test: "TestAppend_ManyAtOnce_FitTogether", pieces: []string{
				"len(g.b)+len(frames) > l.groupLimit()", "len(g.b)+len(frames) > maxGroup ||\n" +
					"\t\t!BROKEN && len(g.b)+len(frames) > l.groupLimit()"}},
		{name: "a segment that a copy has replaced is read", file: "internal/journal/read.go",
			test: "TestNext_Ahead_ReturnsWhatWasWrittenAgain", pieces: []string{
				"return p.first < p.end && (", "return (p.first < p.end || BROKEN) && ("}},
		{name: "what is dropped does not help", file: "internal/journal/room.go",
			test: "TestAppend_DropOldest_DropsNothingInVain", pieces: []string{
				"l.drop(helps && l.config.DropOldest)", "l.drop((helps || BROKEN) && l.config.DropOldest)"}},
		{name: "a limit of one file drops all", file: "internal/journal/room.go",
			test: "TestAppend_DropOldest_DropsNothingInVain", pieces: []string{
				"|| errors.Is(err, disk.ErrFileSize) {", "|| !BROKEN && errors.Is(err, disk.ErrFileSize) {"}},
		{name: "a full disk is not a full spool", file: "internal/journal/room.go",
			test: "TestAppend_DropOldest_MakesRoomOnFullDisk", pieces: []string{
				"if !l.config.DropOldest || !errors.Is(err, disk.ErrFull)",
				"if BROKEN || !l.config.DropOldest || !errors.Is(err, disk.ErrFull)"}},
		{name: "what was removed is not free at once", file: "internal/journal/room.go",
			test: "TestAppend_SpaceIsFreedLate_DropsEnoughOnly", pieces: []string{
				"\t\tif !p.damaged {\n", "\t\tif !p.damaged && !BROKEN {\n"}},
	}...)
}
