"""Tests of the sweeps' counts: python3 -m unittest discover tests/faults -p '*_test.py'"""

import json
import unittest

from faultlib import Part, Tally


class PartTest(unittest.TestCase):
    def test_the_parts_of_a_sweep_have_every_trial_once(self):
        for trials in [0, 1, 4, 35, 300]:
            for count in [1, 2, 6, 8]:
                parts = [Part(f"{index}/{count}").of(trials) for index in range(count)]
                self.assertEqual([number for part in parts for number in part], list(range(trials)))
                self.assertLessEqual(max(map(len, parts)) - min(map(len, parts)), 1)

    def test_a_part_that_does_not_exist_is_an_error(self):
        for text in ["2/2", "-1/2", "1", "a/b"]:
            with self.assertRaises(ValueError):
                Part(text)


class TallyTest(unittest.TestCase):
    def tally(self, trials, found, longest, wrong=()):
        return Tally("sweep", "what", "{found} found, {right} right, at most {longest} s, {absent} absent", trials, wrong,
                     {"found": found}, {"longest": longest})

    def test_counts_of_parts_add_up_and_maxima_do_not(self):
        whole = self.tally(3, 2, 7)
        whole.add(Tally(**json.loads(json.dumps(vars(self.tally(4, 4, 5))))))
        self.assertEqual(whole.row(12), "| sweep | what | 7 | 6 found, 7 right, at most 7 s, 0 absent | 12 s |")

    def test_a_failure_of_any_part_is_in_the_row(self):
        whole = self.tally(3, 3, 1)
        whole.add(self.tally(2, 1, 1, ["code 1 | not 0\nand more"]))
        self.assertIn("4 right", whole.row(1))
        self.assertIn("**1 wrong**: code 1 / not 0 |", whole.row(1))


if __name__ == "__main__":
    unittest.main()
